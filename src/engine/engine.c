/* The engine as a whole: its parts, its start and stop, and its turns. */
#include "engine/engine.h"

#include <stdlib.h>
#include <string.h>

#include "engine/private.h"

/* {==== Creating and destroying =========================================================== */

/* Called on the watchdog's thread, which must not look at what the other one may change: `who` is a
 * copy of the handler's name, and the log stays as long as the engine. */
static void on_stuck(void *user, const char *who, const char *where, unsigned ms) {
    const struct engine *engine = user;
    log_urgent(engine->log, LOG_LEVEL_WARNING, who,
               "has been in one call for %u s without a place to interrupt it: %s (other handlers "
               "and peers wait)",
               ms / 1000, where);
}

/* Likewise. */
static void on_held(void *user, const struct eng_held *held) {
    const struct engine *engine = user;
    engine->events.held(engine->user, held);
}

bool eng_create(struct engine **out, uv_loop_t *loop, struct log *log,
                const struct eng_events *events, void *user, struct err *err) {
    struct engine *engine = calloc(1, sizeof *engine);
    *out = engine;
    if (engine == NULL) {
        return err_set(err, "no memory for the engine");
    }
    engine->loop = loop;
    engine->begun_ns = uv_hrtime();
    engine->log = log;
    engine->events = *events;
    engine->user = user;
    engine->atoms = term_atoms_create();
    if (engine->atoms == NULL) {
        return err_set(err, "no memory for the atoms");
    }
    return eng_slice_init(&engine->slice, ENG_SLICE_PERIOD_US, on_stuck, on_held, engine, err);
}

void eng_destroy(struct engine *engine) {
    if (engine == NULL) {
        return;
    }
    engine->node = NULL;
    engine->stopping = true;
    eng_files_stop(engine);
    while (engine->handlers != NULL) {
        struct eng_handler *handler = engine->handlers;
        engine->handlers = handler->next;
        eng_handler_hide(handler);
        eng_handler_destroy(handler);
    }
    if (engine->scratchpad != NULL) {
        eng_handler_destroy(engine->scratchpad);
        engine->scratchpad = NULL;
    }
    eng_outsiders_clear(engine);
    eng_services_stop(engine);
    eng_alarms_clear(engine);
    eng_reach_clear(engine);
    eng_slice_finish(&engine->slice);
    term_atoms_destroy(engine->atoms);
    eng_rules_finish(&engine->rules);
    free(engine->only);
    buf_finish(&engine->owner);
    buf_finish(&engine->out_local);
    buf_finish(&engine->scratch);
    free(engine);
}

void eng_set_node(struct engine *engine, struct dist_node *node) {
    engine->node = node;
}

bool eng_set_owner(struct engine *engine, const char *name) {
    engine->owner.len = 0;
    return buf_append(&engine->owner, name, strlen(name));
}

struct span eng_node_name(const struct engine *engine) {
    return span_str(engine->node == NULL ? "nonode@nohost" : dist_node_name(engine->node));
}

/* }==== */

/* {==== Several processes ================================================================= */

enum { SLOT_SHIFT = 48 };

void eng_set_outside(struct engine *engine, const struct eng_outside *outside) {
    engine->outside = *outside;
}

void eng_set_slot(struct engine *engine, uint16_t slot) {
    engine->slot = slot;
    engine->last_id = engine->last_ref = (uint64_t)slot << SLOT_SHIFT;
}

int eng_slot_of(const struct engine *engine, struct span pid) {
    if (!ext_is_pid(pid) || pid.len < 12 || !eng_is_local(engine, ext_node_of(pid))) {
        return -1;
    }
    return (int)(ext_u32(pid.data + pid.len - 8) >> (SLOT_SHIFT - 32));
}

struct span eng_control_pid(const struct engine *engine) {
    return buf_span(&engine->control->pid);
}

struct span eng_printer_pid(const struct engine *engine) {
    return buf_span(&engine->printer->pid);
}

void eng_answer(struct engine *engine, const struct eng_caller *caller, struct span value) {
    eng_reply_term(engine, engine->control, caller, value);
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

struct eng_handler *eng_handler_add(struct engine *engine, const struct eng_script *script,
                                    struct err *err) {
    struct eng_handler *handler = eng_handler_create(engine, script, err);
    if (handler == NULL) {
        return NULL;
    }
    append(engine, handler);
    HASH_ADD_KEYPTR(hh, engine->handlers_by_name, handler->name, strlen(handler->name), handler);
    return handler;
}

/* Only a script that was named by itself stops the start. */
static bool add_script(struct engine *engine, const struct eng_script *script, struct err *err) {
    if (!script->policy.trusted && engine->outside.load != NULL) {
        return eng_outsider_add(engine, script, err);
    }
    struct eng_handler *handler = eng_handler_add(engine, script, err);
    if (handler == NULL) {
        return false;
    }
    if (!eng_handler_start(handler)) {
        return err_set(err, "no memory for a process");
    }
    if (script->found_in_folder) {
        eng_load(handler, NULL, NULL);
        return true;
    }
    return eng_load_begin(handler, NULL, err);
}

bool eng_add(struct engine *engine, struct eng_config *config, struct err *err) {
    engine->rules = config->rules;
    config->rules = (struct eng_rules){0};
    if (!eng_services_start(engine)) {
        return err_set(err, "no memory for a process");
    }
    if (config->watch && !eng_files_start(engine, config, err)) {
        return false;
    }
    for (size_t i = 0; i < config->count; i++) {
        if (!add_script(engine, &config->scripts[i], err)) {
            return false;
        }
    }
    if (config->count == 1 && config->scripts[0].policy.trusted) {
        engine->only = strdup(config->scripts[0].name);
        return engine->only != NULL || err_set(err, "no memory for a handler's name");
    }
    return true;
}

void eng_start(struct engine *engine) {
    engine->started = true;
    for (struct eng_handler *handler = engine->handlers; handler != NULL; handler = handler->next) {
        for (struct eng_proc *proc = handler->procs; proc != NULL; proc = proc->next) {
            eng_sched_touch(proc);
        }
    }
}

/* A process that is busy with a message ends when it is done with it, another one at once. */
static void stop_process(struct eng_proc *proc, struct span reason) {
    if (proc->job == ENG_MESSAGE && proc->wait != ENG_WAIT_MAIL) {
        proc->leaving = true;
    } else {
        eng_exit_begin(proc, reason);
    }
}

void eng_stop(struct engine *engine) {
    struct buf term = {0};
    eng_reason_atom(&term, "shutdown");
    engine->stopping = true;
    for (struct eng_handler *handler = engine->handlers; handler != NULL; handler = handler->next) {
        for (struct eng_proc *proc = handler->procs; proc != NULL; proc = proc->next) {
            stop_process(proc, buf_span(&term));
        }
    }
    buf_finish(&term);
}

bool eng_stopped(const struct engine *engine) {
    for (struct eng_handler *handler = engine->handlers; handler != NULL; handler = handler->next) {
        if (handler->procs != NULL) {
            return false;
        }
    }
    return true;
}

/* }==== */

/* {==== Turns ============================================================================= */

bool eng_turn(struct engine *engine) {
    eng_send_look(engine, NULL);
    if (engine->over_memory) {
        eng_limits_look(engine);
    }
    eng_exit_all(engine);
    eng_sched_turn(engine);
    return engine->ready != NULL || engine->interrupted != NULL;
}

void eng_message(struct engine *engine, struct dist_peer *peer, struct span node,
                 const struct dist_control *control, struct span payload) {
    struct dist_peer *outer = engine->in_peer;
    engine->in_peer = peer;
    eng_route(engine, node, control, payload);
    engine->in_peer = outer;
}

void eng_peer_down(struct engine *engine, struct dist_peer *peer) {
    if (engine->out_peer == peer) {
        engine->out_peer = NULL;
    }
    eng_send_look(engine, peer);
    eng_node_down(engine, span_str(dist_peer_name(peer)));
}

void eng_node_down(struct engine *engine, struct span node) {
    eng_monitors_of_node(engine, node);
    eng_watches_of_node(engine, node);
    eng_links_of_node(engine, node);
}

/* }==== */
