/* What the files of src/engine share, grouped by the file that defines it. */
#ifndef LUNODE_ENGINE_PRIVATE_H
#define LUNODE_ENGINE_PRIVATE_H

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <uthash.h>

#include "base/ext.h"
#include "engine/engine.h"

struct eng_handler;
struct eng_proc;

/* {==== mail.c: a message that waits for its process ====================================== */

enum eng_mail_kind {
    ENG_CALL, /* {'$gen_call', {Pid, Tag}, Request} */
    ENG_CAST, /* {'$gen_cast', Request} */
    ENG_ANY,  /* a plain message to the name `any`: answered by {node, value} */
    ENG_INFO, /* any other message */
};

/* Who is answered, and how. The spans are external terms. */
struct eng_caller {
    enum eng_mail_kind kind;
    struct span pid; /* empty when nobody can be answered */
    struct span tag; /* of a call */
};

struct eng_from;

struct eng_mail {
    struct eng_mail *next;
    struct eng_caller caller;
    struct span body;      /* the request or message, an external term that was not looked at yet */
    struct eng_from *from; /* the Lua object for the caller, once the script has asked for it */
    int from_ref;          /* keeps it in the registry */
    uint8_t bytes[];       /* what the spans point into */
};

/* Copies and sorts a message. NULL: no memory. */
struct eng_mail *eng_mail_create(struct span sender, struct span payload, bool to_any);

/* The reference inside a call's tag; `alias` tells that the tag holds it as an alias. False when
 * there is none. */
bool eng_tag_ref(struct span tag, struct span *ref, bool *alias);

/* }==== */

/* {==== monitor.c: who is told when a process ends ======================================== */

struct eng_monitor {
    struct eng_monitor *prev, *next; /* of the same process */
    struct eng_proc *proc;
    struct dist_peer *peer; /* where the watcher lives */
    struct span watcher;    /* pid */
    struct span target;     /* as it was named: pid or name */
    struct span ref;
    UT_hash_handle hh; /* by ref */
    uint8_t bytes[];
};

void eng_monitor_add(struct engine *engine, struct dist_peer *peer,
                     const struct dist_control *control);
void eng_monitor_remove(struct engine *engine, struct span ref);
void eng_monitors_of_peer(struct engine *engine, struct dist_peer *peer);

/* Tells the watchers of an ended process, or the one whose reference it is. False when no such
 * watcher is known. */
void eng_monitors_fire(struct engine *engine, struct eng_proc *proc, struct span reason);
bool eng_monitor_fire(struct engine *engine, struct eng_proc *proc, struct span ref,
                      struct span reason);

/* }==== */

/* {==== send.c: messages on their way out ================================================= */

/* Opens a message whose control message is `control`; its destination is found by control->to, or
 * for ALIAS_SEND by control->ref, or for a name by `node`. Gives the buffer for the payload, which
 * has its version byte; NULL when the node is not connected, or without memory. */
struct buf *eng_send_begin(struct engine *engine, const struct dist_control *control,
                           struct span node, struct err *err);
/* Closes it. False when it is too large; nothing was sent then. */
bool eng_send_end(struct engine *engine, struct err *err);
void eng_send_drop(struct engine *engine);

/* }==== */

/* {==== reply.c: answers to callers, and the Lua object `from` ============================ */

struct eng_from {
    struct eng_from *prev, *next; /* those of one process that are still owed an answer */
    struct eng_proc *proc;        /* NULL: answered, or the process has ended */
    struct eng_caller caller;
    uint8_t bytes[];
};

void eng_from_open(lua_State *L); /* makes its metatable. [-0, +0, m] */

/* Pushes the caller of the message that `proc` handles, or nil when there is none. [-0, +1, m] */
void eng_from_push(lua_State *L, struct eng_proc *proc);

/* The `from` at `idx`, or an argument error. [-0, +0, v] */
struct eng_from *eng_from_check(lua_State *L, int idx);

/* The caller has its answer: it cannot be answered again. */
void eng_from_done(struct eng_from *from);

/* Answers with the `n` values on top of the stack: none is nil, several are a tuple. Raises when
 * they cannot be sent. [-0, +0, e] */
void eng_reply_values(lua_State *L, struct eng_proc *proc, const struct eng_caller *caller, int n,
                      const char *root);

/* Answers with a term that is encoded already. */
void eng_reply_term(struct engine *engine, struct eng_proc *proc, const struct eng_caller *caller,
                    struct span value);

/* Tells a caller that there will be no answer: DOWN for a call's reference, {node, {:error,
 * reason}} to a sender to `any`. */
void eng_reply_failure(struct engine *engine, struct eng_proc *proc,
                       const struct eng_caller *caller, struct span reason);

/* The same to everybody who still waits for the process. */
void eng_fail_waiting(struct engine *engine, struct eng_proc *proc, struct span reason);

/* }==== */

/* {==== process.c ========================================================================= */

struct eng_proc {
    struct engine *engine;
    struct eng_handler *handler; /* NULL for a process that is part of the node */
    uint32_t id;
    struct buf pid;     /* its pid as an external term */
    int self_ref;       /* `self` in the VM's registry */
    bool booting_chunk; /* the script's top level runs */
    bool booted;        /* `init` is done: messages may run */
    bool ready;         /* stands in the run queue */
    lua_State *co;      /* borrowed while something runs */
    int co_ref;
    struct eng_mail *current; /* the message that runs */
    struct eng_mail *first, *last;
    struct eng_monitor *monitors;
    struct eng_from *owed; /* callers whose answer was deferred */
    struct eng_proc *next_ready;
    UT_hash_handle hh; /* by id */
};

struct eng_proc *eng_proc_create(struct engine *engine, struct eng_handler *handler);
void eng_proc_destroy(struct eng_proc *proc);

/* Queues a message, which the process owns from now on, and the process to run. */
void eng_proc_deliver(struct eng_proc *proc, struct eng_mail *mail);
void eng_proc_ready(struct eng_proc *proc);

/* Lets it go on: with its start, or with its next message. */
void eng_proc_run(struct eng_proc *proc);

/* Ends it: everybody who waits or watches is told the reason, an external term. */
void eng_proc_end(struct eng_proc *proc, struct span reason);

/* Runs `terminate(reason)` if the handler has one. */
void eng_proc_terminate(struct eng_proc *proc, struct span reason);

struct eng_proc *eng_proc_of_pid(struct engine *engine, struct span pid);

/* }==== */

/* {==== dispatch.c: what runs in a process's coroutine ==================================== */

/* Each takes the process as a light userdata and runs in a coroutine. [-1, +0, e] */
int eng_run_boot(lua_State *L);
int eng_run_message(lua_State *L);
int eng_run_terminate(lua_State *L); /* with the reason, a span, as a second light userdata */

/* }==== */

/* {==== handler.c ========================================================================= */

enum { ENG_MAX_FAILURES = 5, ENG_FAILURE_SPAN_MS = 10000 };

struct eng_handler {
    struct engine *engine;
    char *name;
    char *path;
    bool stop_on_failure;
    lua_State *L;          /* its VM */
    struct eng_pool *pool; /* coroutines to borrow */
    bool is_function;      /* the script returned one function */
    int chunk_ref;         /* the compiled script */
    int value_ref;         /* what it returned: a table or a function; LUA_NOREF before */
    int meta_ref;          /* the metatable of every `self` */
    struct eng_proc *proc; /* the registered process; NULL while it is down */
    struct buf failure;    /* why it is down, an external term; empty when it never was */
    uint64_t failures[ENG_MAX_FAILURES]; /* when it failed last, ms of the loop's clock */
    struct eng_handler *next;
};

/* Makes the VM and compiles the script. On failure the handler is there, down, and says why. */
struct eng_handler *eng_handler_create(struct engine *engine, const struct eng_script *script,
                                       struct err *err);
void eng_handler_destroy(struct eng_handler *handler);

/* Starts its registered process, which boots when it first runs. */
bool eng_handler_start(struct eng_handler *handler);

/* Its process failed: start it again, unless it fails too often or cannot even load. */
void eng_handler_failed(struct eng_handler *handler, struct span reason);

/* The registered process of that name; `any` is the default handler's. NULL when there is none;
 * then `failure` is the reason when the handler is known. */
struct eng_proc *eng_whereis(struct engine *engine, struct span name, struct span *failure);
struct eng_handler *eng_handler_find(struct engine *engine, struct span name);

/* Checks what the script returned (on top), and keeps it. Raises an error otherwise. [-1, +0, e] */
void eng_handler_accept(lua_State *L, struct eng_handler *handler);

/* }==== */

/* {==== vm.c: Lua states and their coroutines ============================================= */

bool eng_vm_create(lua_State **L, struct eng_handler *handler, struct err *err);
lua_State *eng_pool_borrow(struct eng_handler *handler, int *ref);
void eng_pool_return(struct eng_handler *handler, lua_State *co, int ref);
void eng_pool_destroy(struct eng_pool *pool);

/* The handler whose VM this is. [-0, +0, -] */
struct eng_handler *eng_handler_of(lua_State *L);

/* }==== */

/* {==== erl.c: the module `erl` =========================================================== */

/* Whether the value at `idx` is erl.noreply. [-0, +0, -] */
bool eng_is_noreply(lua_State *L, int idx);

/* Adds erl's functions to the table on top. [-0, +0, m] */
void eng_erl_open(lua_State *L);

/* }==== */

/* {==== output.c ========================================================================== */

/* Sets `print`, `io.write` and `erl.log` of the VM. Expects the table `erl` on top. [-0, +0, m] */
void eng_output_open(lua_State *L);

/* }==== */

/* {==== coroutines.c ====================================================================== */

/* Replaces what a process must not see of its own coroutine. [-0, +0, m] */
void eng_coroutines_open(lua_State *L);

/* }==== */

/* {==== reason.c: exit reasons as external terms ========================================== */

/* Replaces `out`. Without memory the reason is the atom `system_limit`. */
void eng_reason_atom(struct buf *out, const char *name);
void eng_reason_undef(struct buf *out, struct span body);
void eng_reason_text(struct buf *out, const char *kind, struct span text); /* {kind, "text"} */
void eng_reason_lua_error(struct buf *out, const char *message);           /* without a traceback */

/* {:lua_error, value, traceback} from the error value on top of `co`, which stays. `text` gets the
 * message and the traceback for the log. [-0, +0, -] on both */
void eng_reason_error(struct buf *out, struct buf *text, lua_State *L, lua_State *co);

/* }==== */

/* {==== engine.c ========================================================================== */

struct engine {
    uv_loop_t *loop;
    struct log *log;
    struct eng_events events;
    void *user;
    struct dist_node *node;
    struct term_atoms *atoms;
    struct eng_handler *handlers;
    size_t handler_count;
    struct eng_handler *only; /* the one handler the node was started with */
    struct eng_proc *net_kernel;
    struct eng_proc *procs;       /* uthash */
    struct eng_monitor *monitors; /* uthash */
    struct eng_proc *ready_first, *ready_last;
    struct eng_proc *running;
    struct dist_peer *out_peer; /* of the open message; NULL: a local one, or none */
    struct dist_control out_control;
    struct buf out_local; /* a local message on its way */
    uint32_t last_id;
    bool started;
};

const char *eng_node_name(const struct engine *engine);

/* Hands a message to the process it is for. `peer` is NULL for a message from this node. */
void eng_route(struct engine *engine, struct dist_peer *peer, const struct dist_control *control,
               struct span payload);

/* }==== */

#endif
