/* Standard input, while the loop goes on; and lines of it when it is no terminal. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "attach/private.h"

enum { PIECE = 4096 };

/* libuv makes the descriptor non-blocking, which standard output would be too then, and the shell's
 * terminal after us. We read only what is there. A file can't be polled. */
void attach_input_open(struct attach *attach) {
    int flags = fcntl(STDIN_FILENO, F_GETFL);
    attach->polled = uv_poll_init(&attach->loop, &attach->input, STDIN_FILENO) == 0;
    attach->input.data = attach;
    if (attach->polled) {
        (void)fcntl(STDIN_FILENO, F_SETFL, flags);
    }
    if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)) {
        attach->editor = attach_editor_create(attach);
    }
}

void attach_input_close(struct attach *attach) {
    if (attach->polled) {
        uv_close((uv_handle_t *)&attach->input, NULL);
    }
    attach_editor_destroy(attach->editor);
    buf_finish(&attach->typed);
}

static void on_readable(uv_poll_t *poll, int status, int events) {
    (void)status, (void)events; /* reading tells */
    ((struct attach *)poll->data)->readable = true;
}

/* Polled only meanwhile: what is typed during an evaluation waits in the terminal. */
static bool await(struct attach *attach) {
    attach->readable = !attach->polled;
    if (attach->polled) {
        uv_poll_start(&attach->input, UV_READABLE, on_readable);
    }
    while (!attach->readable && !attach->over && !attach->interrupted) {
        uv_run(&attach->loop, UV_RUN_ONCE);
    }
    if (attach->polled) {
        uv_poll_stop(&attach->input);
    }
    return attach->readable && !attach->over && !attach->interrupted;
}

bool attach_input_more(struct attach *attach) {
    ssize_t n = -1;
    while (n < 0 && await(attach)) {
        if (!buf_reserve(&attach->typed, PIECE)) {
            return false;
        }
        n = read(STDIN_FILENO, attach->typed.data + attach->typed.len, PIECE);
        if (n < 0 && errno != EINTR && errno != EAGAIN) {
            return false;
        }
    }
    attach->typed.len += n > 0 ? (size_t)n : 0;
    return n > 0;
}

void attach_input_insert(struct attach *attach, struct span bytes) {
    struct buf *typed = &attach->typed;
    if (buf_reserve(typed, bytes.len)) {
        memmove(typed->data + bytes.len, typed->data, typed->len);
        memcpy(typed->data, bytes.data, bytes.len);
        typed->len += bytes.len;
    }
}

/* The last line may lack its end. */
static enum attach_read read_plain(struct attach *attach, struct buf *line) {
    struct buf *typed = &attach->typed;
    const uint8_t *newline;
    bool more = true;
    do {
        newline = typed->len == 0 ? NULL : memchr(typed->data, '\n', typed->len);
        more = newline == NULL && attach_input_more(attach);
    } while (more);
    if (attach->interrupted || attach->over || typed->len == 0) {
        return attach->interrupted ? ATTACH_INTERRUPTED : ATTACH_END;
    }
    size_t len = newline == NULL ? typed->len : (size_t)(newline - typed->data);
    if (!buf_append(line, typed->data, len)) {
        return ATTACH_END;
    }
    buf_consume(typed, newline == NULL ? len : len + 1);
    return ATTACH_LINE;
}

enum attach_read attach_read_line(struct attach *attach, const char *prompt, struct buf *line) {
    line->len = 0;
    return attach->editor != NULL ? attach_editor_read(attach->editor, prompt, line)
                                  : read_plain(attach, line);
}

void attach_print(struct attach *attach, struct span line) {
    attach_editor_hide(attach->editor);
    (void)fwrite(line.data, 1, line.len, stdout);
    (void)putchar('\n');
    (void)fflush(stdout);
    attach_editor_show(attach->editor);
}
