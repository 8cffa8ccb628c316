/* Signals: Ctrl-C, stopping and going on, the terminal's size, and being told to end. */
#include <signal.h>
#include <string.h>

#include "attach/private.h"

enum { PATIENCE_MS = 1000 }; /* for the end of an evaluation, before Ctrl-C ends the prompt */

/* A second Ctrl-C, when the first has had no effect, gets people out: the node may be held up. */
static void interrupt_evaluation(struct attach *attach) {
    uint64_t now = uv_now(&attach->loop);
    if (attach->interrupt_asked == 0) {
        attach->interrupt_asked = now > 0 ? now : 1;
        attach_link_interrupt(attach);
    } else if (now - attach->interrupt_asked >= PATIENCE_MS && !attach->over) {
        err_set(&attach->why, "it does not end the evaluation");
        attach->over = true;
        attach->status = 1;
    }
}

static void on_signal(uv_signal_t *handle, int number) {
    struct attach *attach = handle->data;
    if (number == SIGINT) {
        attach->interrupted = true;
        if (attach->evaluating) {
            interrupt_evaluation(attach);
        }
    } else if (number == SIGWINCH) {
        attach_editor_resize(attach->editor);
    } else if (number == SIGTSTP) {
        attach_editor_suspend(attach->editor);
        (void)raise(SIGSTOP);
    } else if (number == SIGCONT) {
        attach_editor_resume(attach->editor);
    } else {
        attach->over = true;
        attach->status = 128 + number;
    }
}

/* All handles are there afterwards, also when it fails. */
bool attach_signals_watch(struct attach *attach, struct err *err) {
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGWINCH, SIGTSTP, SIGCONT};
    int status = 0;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        uv_signal_init(&attach->loop, &attach->signals[i]);
        attach->signals[i].data = attach;
        int started = uv_signal_start(&attach->signals[i], on_signal, numbers[i]);
        status = status != 0 ? status : started;
    }
    return status == 0 || err_set(err, "cannot watch for signals: %s", uv_strerror(status));
}

void attach_signals_close(struct attach *attach) {
    for (size_t i = 0; i < sizeof attach->signals / sizeof *attach->signals; i++) {
        uv_close((uv_handle_t *)&attach->signals[i], NULL);
    }
}
