/* The conversation with the node: joining as a node of its own, questions to the process `lunode`,
 * and what it sends by itself. */
#include <stdio.h>
#include <string.h>

#include "attach/private.h"
#include "base/ext.h"

enum {
    TICK_MS = 60000,
    HANDSHAKE_MS = 7000,
    MAX_FRAME = 256 << 20,
    REF_WORD = 0x3FFFF, /* what the first word of a reference may hold */
};

static void end(struct attach *attach, const char *why) {
    if (!attach->over) {
        err_set(&attach->why, "%s", why);
        attach->over = true;
        attach->status = 1;
    }
}

/* {==== What comes ======================================================================== */

static bool keep_answer(struct attach *attach, enum attach_outcome outcome, struct span answer) {
    attach->answer.len = 0;
    if (!buf_append(&attach->answer, answer.data, answer.len)) {
        end(attach, "no memory for its answer");
        return false;
    }
    attach->outcome = outcome;
    return true;
}

static bool is_answer(const struct attach *attach, struct span ref) {
    return attach->outcome == ATTACH_ASKING && span_equal(ref, buf_span(&attach->ref));
}

/* {Ref, Reply}, or {lunode_output, Node, Line}. */
static void on_term(struct attach *attach, struct span term) {
    uint32_t arity;
    struct span first;
    struct span second;
    struct span line;
    if (!ext_take_tuple(&term, &arity) || arity < 2 || !ext_take(&term, &first) ||
        !ext_take(&term, &second)) {
        return;
    }
    if (arity == 2 && is_answer(attach, first)) {
        keep_answer(attach, ATTACH_ANSWERED, second);
    } else if (arity == 3 && ext_is_atom(first, "lunode_output") && ext_take_binary(&term, &line)) {
        attach_print(attach, line);
    }
}

static void on_message(void *user, struct dist_peer *peer, const struct dist_control *control,
                       struct span payload) {
    struct attach *attach = user;
    (void)peer;
    if (control->op == DIST_SEND && span_equal(control->to, buf_span(&attach->pid))) {
        on_term(attach, payload);
    } else if (control->op == DIST_MONITOR_P_EXIT && is_answer(attach, control->ref)) {
        keep_answer(attach, ATTACH_FAILED, control->reason);
    }
}

static void on_peer_up(void *user, struct dist_peer *peer) {
    ((struct attach *)user)->peer = peer;
}

static void on_peer_down(void *user, struct dist_peer *peer, const char *why) {
    struct attach *attach = user;
    (void)peer;
    attach->peer = NULL;
    end(attach, why);
}

static void on_connect_failed(void *user, const char *node, const char *why) {
    (void)node;
    end(user, why);
}

static void on_published(void *user, const char *why) {
    (void)user, (void)why; /* it never is */
}

/* }==== */

/* {==== What goes ========================================================================= */

static bool make_ref(struct attach *attach) {
    uint32_t number = ++attach->asked;
    uint32_t words[3] = {number & REF_WORD, number / (REF_WORD + 1), 0};
    attach->ref.len = 0;
    return ext_put_ref(&attach->ref, span_str(dist_node_name(attach->node)),
                       dist_node_creation(attach->node), words);
}

/* A control message about the process `lunode`. */
static bool send_control(struct attach *attach, enum dist_op op) {
    struct err err;
    struct buf name = {0};
    struct buf *out = dist_frame_begin(attach->peer);
    bool ok = ext_put_atom(&name, span_str("lunode"));
    struct dist_control control = {.op = op,
                                   .from = buf_span(&attach->pid),
                                   .to = buf_span(&name),
                                   .ref = buf_span(&attach->ref)};
    ok = ok && out != NULL && dist_control_write(out, &control) &&
         dist_frame_end(attach->peer, &err);
    buf_finish(&name);
    return ok;
}

/* {'$gen_call', {Pid, Ref}, Request} */
static bool put_call(const struct attach *attach, struct span request, struct buf *out) {
    return ext_put_version(out) && ext_put_tuple(out, 3) &&
           ext_put_atom(out, span_str("$gen_call")) && ext_put_tuple(out, 2) &&
           buf_append(out, attach->pid.data, attach->pid.len) &&
           buf_append(out, attach->ref.data, attach->ref.len) &&
           buf_append(out, request.data, request.len);
}

static bool send_call(struct attach *attach, struct span request) {
    struct err err;
    struct buf name = {0};
    struct buf *out = dist_frame_begin(attach->peer);
    bool ok = ext_put_atom(&name, span_str("lunode"));
    struct dist_control control = {
        .op = DIST_REG_SEND, .from = buf_span(&attach->pid), .to = buf_span(&name)};
    ok = ok && out != NULL && dist_control_write(out, &control) && put_call(attach, request, out) &&
         dist_frame_end(attach->peer, &err);
    buf_finish(&name);
    dist_node_flush(attach->node);
    return ok;
}

/* A monitor tells when nobody answers. */
enum attach_outcome attach_ask(struct attach *attach, struct span request) {
    attach->outcome = ATTACH_ASKING;
    if (attach->peer == NULL) {
        return ATTACH_ASKING;
    }
    if (!make_ref(attach) || !send_control(attach, DIST_MONITOR_P) || !send_call(attach, request)) {
        end(attach, "no memory for a message to it");
    }
    while (attach->outcome == ATTACH_ASKING && !attach->over &&
           (attach->evaluating || !attach->interrupted)) {
        uv_run(&attach->loop, UV_RUN_ONCE);
    }
    if (attach->outcome != ATTACH_FAILED && attach->peer != NULL) {
        send_control(attach, DIST_DEMONITOR_P); /* it leaves with what is sent next */
    }
    enum attach_outcome outcome = attach->outcome;
    attach->outcome = outcome == ATTACH_ASKING ? ATTACH_FAILED : outcome; /* too late */
    return outcome;
}

/* The reference stays that of the evaluation: the answer to this is not awaited. */
void attach_link_interrupt(struct attach *attach) {
    struct buf request = {0};
    struct buf ref = attach->ref;
    buf_init(&attach->ref);
    if (attach->peer != NULL && make_ref(attach) &&
        ext_put_tagged(&request, "interrupt", buf_span(&attach->pid))) {
        send_call(attach, buf_span(&request));
    }
    buf_finish(&request);
    buf_finish(&attach->ref);
    attach->ref = ref;
}

/* }==== */

/* {==== Joining and leaving =============================================================== */

static void wipe(char *text) {
    explicit_bzero(text, strlen(text));
}

/* Several prompts may come from one machine, and from containers with the same process ids. */
static void make_name(char *name, size_t size) {
    uint32_t number[2] = {0};
    (void)uv_random(NULL, NULL, number, sizeof number, 0, NULL);
    (void)snprintf(name, size, "attach_%08x%08x", number[0], number[1]);
}

static bool create_node(struct attach *attach) {
    static const struct dist_events events = {on_published, on_peer_up, on_peer_down, on_message,
                                              on_connect_failed};
    char alive[32];
    make_name(alive, sizeof alive);
    struct dist_config config = {.host = attach->config->host,
                                 .alive = alive,
                                 .cookie = attach->config->cookie,
                                 .creation = attach->config->creation,
                                 .max_frame = MAX_FRAME,
                                 .tick_ms = TICK_MS,
                                 .handshake_ms = HANDSHAKE_MS,
                                 .connects_only = true};
    bool ok = dist_node_create(&attach->node, &attach->loop, attach->log, &config, &events, attach,
                               &attach->why);
    wipe(attach->config->cookie);
    return ok && (ext_put_pid(&attach->pid, span_str(dist_node_name(attach->node)), 1, 0,
                              dist_node_creation(attach->node)) ||
                  err_set(&attach->why, "no memory"));
}

bool attach_link_open(struct attach *attach) {
    if (!create_node(attach)) {
        return false;
    }
    dist_node_connect(attach->node, attach->config->node);
    while (attach->peer == NULL && !attach->over && !attach->interrupted) {
        uv_run(&attach->loop, UV_RUN_ONCE);
    }
    return attach->peer != NULL;
}

void attach_link_close(struct attach *attach) {
    if (attach->node != NULL) {
        dist_node_flush(attach->node);
    }
    dist_node_destroy(attach->node);
    buf_finish(&attach->pid);
    buf_finish(&attach->ref);
    buf_finish(&attach->answer);
}

/* }==== */
