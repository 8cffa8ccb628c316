/* The anchor: an echo as ei's documentation has it, with one read and one write or more a message.
 * To {'$gen_call', {Pid, Ref}, {Function, Term}} the answer is {Ref, Term}, and nothing is decoded
 * but the pid. */
#include "node.h"

static int answer(int fd, const ei_x_buff *in) {
    struct node_call call;
    ei_x_buff out;
    if (!node_read_call(in->buff, in->index, &call)) {
        return 0;
    }
    ei_x_new_with_version(&out);
    ei_x_encode_tuple_header(&out, 2);
    ei_x_append_buf(&out, call.ref, call.ref_len);
    ei_x_append_buf(&out, call.term, call.term_len);
    int status = ei_send(fd, &call.to, out.buff, out.index);
    ei_x_free(&out);
    return status;
}

int main(int argc, char **argv) {
    ei_cnode ec;
    erlang_msg message;
    ei_x_buff in;
    int fd = argc == 2 ? node_accept(&ec, argv[1]) : -1;
    int status = fd < 0 ? ERL_ERROR : ERL_TICK;
    ei_x_new(&in);
    while (status != ERL_ERROR) {
        in.index = 0;
        status = ei_xreceive_msg(fd, &message, &in);
        if (status == ERL_MSG && answer(fd, &in) < 0) {
            status = ERL_ERROR;
        }
    }
    ei_x_free(&in);
    return 0;
}
