/* The engine as a whole: what it runs, and where an incoming message goes. */
#include "engine/engine.h"

#include <stdlib.h>
#include <string.h>

#include "engine/private.h"

enum { TURN_MS = 10 };

/* {==== Creating and destroying =========================================================== */

bool eng_create(struct engine **out, uv_loop_t *loop, struct log *log,
                const struct eng_events *events, void *user, struct err *err) {
    struct engine *engine = calloc(1, sizeof *engine);
    *out = engine;
    if (engine == NULL) {
        return err_set(err, "no memory for the engine");
    }
    engine->loop = loop;
    engine->log = log;
    engine->events = *events;
    engine->user = user;
    engine->atoms = term_atoms_create();
    return engine->atoms != NULL || err_set(err, "no memory for the atoms");
}

void eng_destroy(struct engine *engine) {
    if (engine == NULL) {
        return;
    }
    engine->node = NULL;
    while (engine->handlers != NULL) {
        struct eng_handler *handler = engine->handlers;
        engine->handlers = handler->next;
        eng_handler_destroy(handler);
    }
    if (engine->net_kernel != NULL) {
        eng_proc_destroy(engine->net_kernel);
    }
    term_atoms_destroy(engine->atoms);
    buf_finish(&engine->out_local);
    free(engine);
}

void eng_set_node(struct engine *engine, struct dist_node *node) {
    engine->node = node;
}

const char *eng_node_name(const struct engine *engine) {
    return engine->node == NULL ? "nonode@nohost" : dist_node_name(engine->node);
}

/* }==== */

/* {==== Handlers ========================================================================== */

static void append(struct engine *engine, struct eng_handler *handler) {
    struct eng_handler **at = &engine->handlers;
    while (*at != NULL) {
        at = &(*at)->next;
    }
    *at = handler;
}

/* Compiles one script. Only one that was named by itself stops the start. */
static bool add_script(struct engine *engine, const struct eng_script *script, struct err *err) {
    struct eng_handler *handler = eng_handler_create(engine, script, err);
    if (handler == NULL) {
        return false;
    }
    append(engine, handler);
    if (handler->failure.len == 0) {
        return eng_handler_start(handler) || err_set(err, "no memory for a process");
    }
    if (script->found_in_folder) {
        log_line(engine->log, LOG_LEVEL_ERROR, handler->name, "%s", err->text);
    }
    return script->found_in_folder;
}

bool eng_add(struct engine *engine, const struct eng_config *config, struct err *err) {
    engine->net_kernel = eng_proc_create(engine, NULL);
    if (engine->net_kernel == NULL) {
        return err_set(err, "no memory for a process");
    }
    for (size_t i = 0; i < config->count; i++) {
        if (!add_script(engine, &config->scripts[i], err)) {
            return false;
        }
    }
    engine->only = config->count == 1 ? engine->handlers : NULL;
    return true;
}

void eng_start(struct engine *engine) {
    engine->started = true;
    for (struct eng_handler *handler = engine->handlers; handler != NULL; handler = handler->next) {
        if (handler->proc != NULL) {
            eng_proc_ready(handler->proc);
        }
    }
}

void eng_stop(struct engine *engine, const char *reason) {
    struct buf term = {0};
    eng_reason_atom(&term, reason);
    engine->started = false;
    for (struct eng_handler *handler = engine->handlers; handler != NULL; handler = handler->next) {
        if (handler->proc != NULL) {
            eng_proc_terminate(handler->proc, buf_span(&term));
            eng_proc_end(handler->proc, buf_span(&term));
        }
    }
    buf_finish(&term);
}

/* }==== */

/* {==== Turns ============================================================================= */

static struct eng_proc *next_ready(struct engine *engine) {
    struct eng_proc *proc = engine->ready_first;
    if (proc != NULL) {
        engine->ready_first = proc->next_ready;
        if (engine->ready_first == NULL) {
            engine->ready_last = NULL;
        }
        proc->ready = false;
    }
    return proc;
}

bool eng_turn(struct engine *engine) {
    struct eng_proc *proc;
    uint64_t end = uv_hrtime() + (uint64_t)TURN_MS * 1000000;
    while ((proc = next_ready(engine)) != NULL) {
        eng_proc_run(proc);
        if (uv_hrtime() > end) {
            break;
        }
    }
    return engine->ready_first != NULL;
}

/* }==== */

/* {==== Incoming messages ================================================================= */

/* Node.ping and Node.connect ask net_kernel whether they may: {is_auth, Node} is answered by yes.
 */
static void net_kernel_message(struct eng_proc *proc, struct eng_mail *mail) {
    uint32_t arity;
    struct span request = mail->body;
    struct span head;
    struct buf answer = {0};
    if (ext_take_tuple(&request, &arity) && arity == 2 && ext_take(&request, &head) &&
        ext_is_atom(head, "is_auth") && mail->caller.kind == ENG_CALL) {
        eng_reason_atom(&answer, "yes");
        eng_reply_term(proc->engine, proc, &mail->caller, buf_span(&answer));
    } else if (mail->caller.kind == ENG_CALL) {
        eng_reason_undef(&answer, mail->body);
        eng_reply_failure(proc->engine, proc, &mail->caller, buf_span(&answer));
    }
    buf_finish(&answer);
    free(mail);
}

static void deliver(struct eng_proc *proc, struct span sender, struct span payload, bool to_any) {
    struct eng_mail *mail = eng_mail_create(sender, payload, to_any);
    if (mail == NULL) {
        log_line(proc->engine->log, LOG_LEVEL_ERROR, "lunode", "no memory: a message is lost");
    } else if (proc->handler == NULL) {
        net_kernel_message(proc, mail);
    } else {
        eng_proc_deliver(proc, mail);
    }
}

/* Nobody has the name `any`, or its handler is down: the sender waits for {node, value}. */
static void refuse_any(struct engine *engine, struct span sender, struct span failure) {
    struct eng_caller caller = {.kind = ENG_ANY, .pid = sender};
    struct buf noproc = {0};
    eng_reason_atom(&noproc, "noproc");
    eng_reply_failure(engine, engine->net_kernel, &caller,
                      failure.len > 0 ? failure : buf_span(&noproc));
    buf_finish(&noproc);
}

/* Whether the payload is a GenServer's, whose failure the caller learns by its monitor. */
static bool is_gen(struct span payload) {
    struct eng_mail *mail = eng_mail_create((struct span){0}, payload, false);
    bool gen = mail != NULL && mail->caller.kind != ENG_INFO;
    free(mail);
    return gen;
}

static void to_name(struct engine *engine, const struct dist_control *control,
                    struct span payload) {
    struct span to = control->to;
    struct span name;
    struct span failure;
    bool latin1;
    if (!ext_take_atom(&to, &name, &latin1)) {
        return;
    }
    bool to_any = span_equal(name, span_str("any"));
    struct eng_proc *proc = eng_whereis(engine, name, &failure);
    if (proc != NULL) {
        deliver(proc, control->from, payload, to_any);
    } else if (to_any && !is_gen(payload)) {
        refuse_any(engine, control->from, failure);
    } else {
        log_line(engine->log, LOG_LEVEL_DEBUG, "lunode", "dropped a message to %.*s: no process",
                 (int)name.len, (const char *)name.data);
    }
}

void eng_route(struct engine *engine, struct dist_peer *peer, const struct dist_control *control,
               struct span payload) {
    struct eng_proc *proc;
    switch (control->op) {
    case DIST_SEND:
        proc = eng_proc_of_pid(engine, control->to);
        if (proc != NULL) {
            deliver(proc, (struct span){0}, payload, false);
        }
        break;
    case DIST_REG_SEND:
        to_name(engine, control, payload);
        break;
    case DIST_MONITOR_P:
        eng_monitor_add(engine, peer, control);
        break;
    case DIST_DEMONITOR_P:
        eng_monitor_remove(engine, control->ref);
        break;
    default:
        break;
    }
}

void eng_message(struct engine *engine, struct dist_peer *peer, const struct dist_control *control,
                 struct span payload) {
    eng_route(engine, peer, control, payload);
}

void eng_peer_down(struct engine *engine, struct dist_peer *peer) {
    if (engine->out_peer == peer) {
        engine->out_peer = NULL;
    }
    eng_monitors_of_peer(engine, peer);
}

/* }==== */
