/* The prompt from the first to the last moment: see attach.h. */
#include "attach/attach.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "attach/private.h"
#include "base/ext.h"

/* Whom one talks to; also finds out whether it is one of ours. */
static bool greet(struct attach *attach) {
    struct buf request = {0};
    struct span version;
    bool ok =
        ext_put_atom(&request, span_str("version")) && attach_asks(attach, buf_span(&request));
    struct span answer = buf_span(&attach->answer);
    if (ok && attach->editor != NULL && ext_take_binary(&answer, &version)) {
        (void)printf("%s, lunode %.*s; :help tells what there is, Ctrl-D ends\n",
                     attach->config->node, (int)version.len, (const char *)version.data);
    }
    buf_finish(&request);
    return ok;
}

/* False when there is no prompt. */
static bool run(struct attach *attach) {
    if (!attach_link_open(attach)) {
        if (attach->why.text[0] != '\0') {
            err_prefix(&attach->why, "cannot connect: ");
        }
        return false;
    }
    attach_input_open(attach);
    bool ok = greet(attach);
    if (ok) {
        attach_prompt(attach);
    }
    attach_input_close(attach);
    return ok;
}

int attach_run(const struct attach_config *config) {
    struct attach attach = {.config = config};
    (void)signal(SIGPIPE, SIG_IGN); /* as the connection wants it */
    uv_loop_init(&attach.loop);
    bool ok = attach_signals_watch(&attach, &attach.why) &&
              log_create(&attach.log, &attach.loop, STDERR_FILENO, &attach.why) && run(&attach);
    if (!ok && attach.status == 0) {
        attach.status = attach.interrupted ? 128 + SIGINT : 1;
    }
    (void)fflush(stdout);
    if (attach.why.text[0] != '\0') {
        (void)fprintf(stderr, "lunode: %s: %s\n", config->node, attach.why.text);
    }
    attach_link_close(&attach);
    attach_signals_close(&attach);
    log_destroy(attach.log);
    while (uv_run(&attach.loop, UV_RUN_DEFAULT) != 0) {
    }
    uv_loop_close(&attach.loop);
    return attach.status;
}
