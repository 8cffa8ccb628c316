/* What the files of src/engine share, grouped by the file that defines it. */
#ifndef LUNODE_ENGINE_PRIVATE_H
#define LUNODE_ENGINE_PRIVATE_H

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <uthash.h>

#include "base/ext.h"
#include "engine/caller.h"
#include "engine/engine.h"
#include "engine/heap.h"
#include "engine/slice.h"

struct eng_handler;
struct eng_proc;
struct eng_version;

/* {==== mail.c: a message that waits for its process ====================================== */

struct eng_from;

struct eng_mail {
    struct eng_mail *prev, *next;
    struct eng_caller caller;
    struct span body;      /* the request or message, an external term that was not looked at yet */
    struct eng_from *from; /* the Lua object for the caller, once the script has asked for it */
    int from_ref;          /* keeps it in the registry */
    uint32_t origin;       /* the atom of the node it came from; 0: this node */
    uint64_t number;       /* its place in the order of the process's messages */
    size_t size;           /* bytes that it takes */
    struct buf frame;      /* the body lies in it, if the message is long */
    uint8_t bytes[];       /* what the spans point into otherwise */
};

/* Copies and sorts a message; a long one is not copied if it is in a frame of the peer (NULL: in
 * none). NULL: no memory. */
struct eng_mail *eng_mail_create(struct dist_peer *peer, struct span sender, struct span payload,
                                 bool to_any);

/* Frees one of which nothing is in Lua; else it is eng_mail_free. */
void eng_mail_drop(struct eng_mail *mail);

/* }==== */

/* {==== mailbox.c: the messages that wait for one process ================================= */

struct eng_mailbox {
    struct eng_mail *first;
    size_t count;
    size_t bytes;
    size_t system;   /* how many of them are OTP's system messages */
    uint64_t number; /* of the last one that came */
    uint64_t taken;  /* how many were taken out: tells a walk that its place may be gone */
    uint64_t pinned; /* the number of the one that is decoded just now; 0: none */
    bool told_full;  /* the log has a line about it, */
    bool reported;   /* and subscribers know */
};

/* Delivers a message to a process, which owns it from now on, unless its mailbox is full: then the
 * sender is told. */
void eng_mailbox_deliver(struct eng_proc *proc, struct eng_mail *mail);

/* Takes a message out; it is the caller's from now on. */
void eng_mailbox_take(struct eng_proc *proc, struct eng_mail *mail);

/* The next message for the process's loop; NULL when there is none. Only system messages count
 * while the process is suspended by `sys`, and before run(), which takes the others itself. */
struct eng_mail *eng_mailbox_next(const struct eng_proc *proc);

/* Frees a message and the Lua object for its caller. */
void eng_mail_free(struct eng_proc *proc, struct eng_mail *mail);
void eng_mailbox_clear(struct eng_proc *proc);

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

/* Sends a control message without a payload. False when the node is not connected. */
bool eng_send_control(struct engine *engine, const struct dist_control *control, struct span node);

/* Whether `node` is this one. */
bool eng_is_local(const struct engine *engine, struct span node);

/* The peer to which the running process has sent too much, answers apart, that is not read yet;
 * NULL when there is none. */
struct dist_peer *eng_send_crowded(struct engine *engine);

/* The process goes on when the peer has read enough. */
void eng_send_block(struct eng_proc *proc, struct dist_peer *peer);
void eng_send_unblock(struct eng_proc *proc);
void eng_send_look(struct engine *engine, const struct dist_peer *gone);

/* }==== */

/* {==== reach.c: nodes that are not connected yet ========================================= */

struct eng_unreached;

/* To be called before something is sent that a script has asked for: the node is connected to if it
 * is not, and what is sent to it meanwhile waits. (Answers and other signals to a node that has
 * gone are dropped instead.) */
void eng_reach(struct engine *engine, struct span node);

/* Whether the connection is being made; adds a frame to what waits for it. */
bool eng_reach_waits(struct engine *engine, struct span node);
bool eng_reach_add(struct engine *engine, struct span node, struct span frame, struct err *err);
void eng_reach_clear(struct engine *engine);

/* }==== */

/* {==== reply.c: answers to callers, and the Lua object `from` ============================ */

struct eng_from {
    struct eng_from *prev, *next; /* those of one process that are still owed an answer */
    struct eng_proc *proc;        /* NULL: answered, or the process has ended */
    struct eng_caller caller;
    uint8_t bytes[];
};

void eng_from_open(lua_State *L); /* makes its metatable. [-0, +0, m] */

/* Pushes the caller of the message, or nil when there is none. [-0, +1, m] */
void eng_from_push(lua_State *L, struct eng_proc *proc, struct eng_mail *mail);

/* The `from` at `idx`, or an argument error. [-0, +0, v] */
struct eng_from *eng_from_check(lua_State *L, int idx);

/* The caller has its answer: it cannot be answered again. */
void eng_from_done(struct eng_from *from);

/* Appends the `n` values on top of the stack as one term: none is nil, several are a tuple. [-0,
 * +0, m] */
bool eng_put_values(lua_State *L, int n, const char *root, struct buf *out, struct err *err);

/* Answers with them. Raises when they cannot be sent. [-0, +0, e] */
void eng_reply_values(lua_State *L, struct eng_proc *proc, const struct eng_caller *caller, int n,
                      const char *root);

/* Answers with a term that is encoded already: see also eng_answer. */
void eng_reply_term(struct engine *engine, struct eng_proc *proc, const struct eng_caller *caller,
                    struct span value);
void eng_reply_atom(struct engine *engine, struct eng_proc *proc, const struct eng_caller *caller,
                    const char *name);

/* Tells a caller that there will be no answer: DOWN for a call's reference, {node, {:error,
 * reason}} to a sender to `any`. */
void eng_reply_failure(struct engine *engine, struct eng_proc *proc,
                       const struct eng_caller *caller, struct span reason);

/* The same to everybody who still waits for the process and has no monitor to tell him. */
void eng_fail_waiting(struct engine *engine, struct eng_proc *proc, struct span reason);

/* }==== */

/* {==== monitor.c: who watches this node's processes ====================================== */

struct eng_monitor {
    struct eng_monitor *prev, *next; /* of the same process */
    struct eng_proc *proc;
    struct span watcher; /* pid */
    struct span target;  /* as it was named: pid or name */
    struct span ref;
    UT_hash_handle hh; /* by ref */
    uint8_t bytes[];
};

void eng_monitor_add(struct engine *engine, const struct dist_control *control);
void eng_monitor_remove(struct engine *engine, struct span ref);
void eng_monitors_of_node(struct engine *engine, struct span node);

/* The same for a process that was just spawned for the watcher. False: no memory. */
bool eng_monitor_start(struct eng_proc *proc, struct span watcher, struct span ref);

/* Tells the watchers of an ended process, or the one whose reference it is. False when no such
 * watcher is known. */
void eng_monitors_fire(struct engine *engine, struct eng_proc *proc, struct span reason);
bool eng_monitor_fire(struct engine *engine, struct eng_proc *proc, struct span ref,
                      struct span reason);

/* Forgets the watchers of a process that goes without an end: nobody is told. */
void eng_monitors_clear(struct eng_proc *proc);

/* }==== */

/* {==== watch.c: what this node's processes watch, and the answers they wait for ========== */

enum eng_watch_kind {
    ENG_WATCH_USER,  /* erl.monitor: its end is a message */
    ENG_WATCH_CALL,  /* erl.call: its end fails the call */
    ENG_WATCH_SPAWN, /* erl.rpc: its end is the result */
};

struct eng_watch {
    struct eng_watch *prev, *next; /* of the same process */
    struct eng_proc *proc;
    enum eng_watch_kind kind;
    size_t size;        /* with what the other side keeps */
    struct span target; /* pid or name; empty for a spawn that was not answered yet */
    struct span node;
    struct span ref;
    UT_hash_handle hh; /* by ref */
    uint8_t bytes[];
};

/* What the bytes of a reference of this node take at the most. */
enum { ENG_MAX_REF = 3 + 3 + 4 * 255 + 16 };

/* Makes a reference of this node; that of a call is told from others. False: no memory. */
bool eng_ref_make(struct engine *engine, bool call, struct buf *out);

/* Starts to watch `target` (a pid, or a name at `node`) under the reference `ref`. When it is not
 * there, or its node is not connected, that is told at once like any end. False: no memory. */
bool eng_watch_add(struct eng_proc *proc, enum eng_watch_kind kind, struct span ref,
                   struct span target, struct span node);
/* Stops. False when the process has no such watch. */
bool eng_watch_remove(struct eng_proc *proc, struct span ref);
void eng_watches_clear(struct eng_proc *proc);
void eng_watches_of_node(struct engine *engine, struct span node);

/* MONITOR_P_EXIT, SPAWN_REPLY and the reply to a call, as they arrive. The last tells whether the
 * message was one: an answer to a call that has ended is dropped. */
void eng_watch_down(struct engine *engine, const struct dist_control *control);
void eng_watch_spawned(struct engine *engine, const struct dist_control *control);
bool eng_watch_reply(struct eng_proc *proc, struct span payload);

/* }==== */

/* {==== link.c ============================================================================ */

struct eng_link {
    struct eng_link *prev, *next; /* of the same process */
    struct eng_proc *proc;
    struct span other; /* pid */
    size_t size;
    int32_t unlinking; /* the id of an unlink that was not acknowledged; 0: active */
    UT_hash_handle hh; /* by key */
    size_t key_len;
    uint8_t key[]; /* the process's number and the other's pid */
};

/* erl.link and erl.unlink. False: no memory. */
bool eng_link(struct eng_proc *proc, struct span other);
void eng_unlink(struct eng_proc *proc, struct span other);

/* Marks the process as linked: it was spawned so. False: no memory. */
bool eng_link_start(struct eng_proc *proc, struct span other);

/* LINK, UNLINK, UNLINK_ID, UNLINK_ID_ACK as they arrive. */
void eng_unlinked(struct engine *engine, const struct dist_control *control);
void eng_link_received(struct engine *engine, const struct dist_control *control);
void eng_unlink_received(struct engine *engine, const struct dist_control *control);
void eng_unlink_acknowledged(struct engine *engine, const struct dist_control *control);

/* Removes the link; whether it was active. */
bool eng_link_break(struct eng_proc *proc, struct span other);

/* The process has ended: those linked to it get an exit signal. */
void eng_links_fire(struct eng_proc *proc, struct span reason);
void eng_links_clear(struct eng_proc *proc); /* nobody is told */
void eng_links_of_node(struct engine *engine, struct span node);

/* }==== */

/* {==== exit.c: exit signals, and how a process ends ====================================== */

/* EXIT and EXIT2 as they arrive. */
void eng_exit_received(struct engine *engine, const struct dist_control *control);

/* An exit signal goes by the rules of OTP: a trapping process gets a message, `normal` does
 * nothing, `kill` (by exit/2 alone, not through a link) can't be trapped. */
void eng_exit_signal(struct eng_proc *proc, struct span from, struct span reason, bool by_link);

/* The process ends by itself: what it does now is given up, and `terminate` runs. */
void eng_exit_begin(struct eng_proc *proc, struct span reason);

/* Ends it without more ado. Nothing of it runs any more, but it is gone only after eng_exit_all:
 * one end can cause any number of others, which must not nest. */
void eng_exit(struct eng_proc *proc, struct span reason);

/* Buries the processes that have ended: everybody who waits or watches is told the reason. */
void eng_exit_all(struct engine *engine);

/* Whether the message is {'EXIT', Parent, Reason}: a process ends then as a GenServer does. */
bool eng_exit_of_parent(const struct eng_proc *proc, const struct eng_mail *mail,
                        struct span *reason);

/* }==== */

/* {==== process.c ========================================================================= */

/* What a process is for. */
enum eng_purpose {
    ENG_LASTING, /* init(...), then a message loop, or run() */
    ENG_ONCE,    /* runs one function of its handler, then ends */
    ENG_CLOSURE, /* runs one Lua function of the script, then ends */
    ENG_LOAD,    /* runs the top level of a version, then ends */
    ENG_EVAL,    /* runs source that somebody has sent, then ends */
};

struct eng_start {
    enum eng_purpose purpose;
    struct span function; /* of ENG_ONCE: its name */
    uint32_t count;       /* of arguments */
    struct span args;     /* them, one term behind the other */
    int closure; /* of ENG_CLOSURE and ENG_EVAL: the registry's table {function, arguments...} */
    struct span parent; /* pid of who started it; may be empty */
    bool is_child;      /* with a link: to OTP it has a parent only then */
    struct span result; /* erpc's reference: the process ends with {result, return, value} */
};

enum eng_stage {
    ENG_STARTING,
    ENG_LIVING,
    ENG_ENDING, /* `terminate` is to run, or runs; `reason` is known */
};

/* What the process's coroutine is busy with. */
enum eng_job { ENG_IDLE, ENG_BOOT, ENG_RUN, ENG_MESSAGE, ENG_UPGRADE, ENG_TERMINATE };

/* What it waits for meanwhile. */
enum eng_wait {
    ENG_WAIT_NONE,
    ENG_WAIT_MAIL,
    ENG_WAIT_ANSWER,
    ENG_WAIT_TIME,
    ENG_WAIT_EXIT, /* for nothing: its end has begun */
};

/* How a call out ended. */
enum eng_outcome { ENG_PENDING, ENG_REPLIED, ENG_FAILED };

struct eng_timer;

struct eng_proc {
    struct engine *engine;
    struct eng_handler *handler;                           /* NULL: part of the node */
    void (*service)(struct eng_proc *, struct eng_mail *); /* then it does this */
    uint64_t id;
    struct buf pid; /* its pid as an external term */
    struct eng_start *start;
    struct eng_version *version; /* what it runs; NULL before its start */
    struct eng_eval *eval;       /* of ENG_EVAL */
    uint64_t ran_ns;             /* the time that it has run, */
    size_t outside;              /* what it takes of its handler's: see eng_outside_take */
    uint64_t job_ns;             /* of which this job has taken so much of the processor */
    enum eng_stage stage;
    enum eng_job job;
    enum eng_wait wait;
    bool queued;      /* stands in its handler's run queue */
    bool interrupted; /* its last slice was used up */
    bool trap_exit;
    bool suspended; /* by sys */
    bool leaving;   /* ends when its job is done */
    bool killed;    /* has ended, with `reason` */
    bool logged;    /* the log knows why */
    bool timed_out; /* its wait has */
    int self_ref;   /* `self` in the VM's registry */
    int co_ref;
    lua_State *co;            /* borrowed while a job lasts */
    struct buf reason;        /* why it ends */
    struct buf error;         /* what went wrong, for programs: see eng_error */
    struct eng_mail *current; /* the message that runs */
    struct eng_mail *serving; /* a system message that erl.receive has come upon */
    struct eng_mailbox mailbox;
    struct eng_monitor *monitors;
    struct eng_watch *watches;
    struct eng_alarm *alarms; /* messages that will be sent to it */
    struct eng_link *links;
    struct eng_name *names;
    struct eng_from *owed;   /* callers whose answer was deferred */
    struct eng_timer *timer; /* of its wait */
    struct eng_watch *call;  /* what it waits for an answer to */
    enum eng_outcome outcome;
    struct buf answer;            /* the reply, or why there is none */
    struct dist_peer *blocked_on; /* it has sent too much to this one */
    struct eng_proc *prev_blocked, *next_blocked;
    struct eng_proc *prev, *next;             /* of the same handler */
    struct eng_proc *prev_ready, *next_ready; /* in the run queue, or of those to be buried */
    UT_hash_handle hh;                        /* by id */
};

/* Makes a process; `start` is copied. It runs when its handler has loaded. */
struct eng_proc *eng_proc_create(struct engine *engine, struct eng_handler *handler,
                                 const struct eng_start *start);

/* Makes one that is part of the node, and does `service` with each message. */
struct eng_proc *eng_proc_service(struct engine *engine,
                                  void (*service)(struct eng_proc *, struct eng_mail *));
void eng_proc_destroy(struct eng_proc *proc);

/* Gives up what the process is doing, without a trace; `tidy` lets __close run. */
void eng_proc_abandon(struct eng_proc *proc, bool tidy);

struct eng_proc *eng_proc_of_pid(struct engine *engine, struct span pid);

/* }==== */

/* {==== scheduler.c: whose turn it is ===================================================== */

/* Puts the process into the run queue if there is something that it can do now. To be called after
 * anything that may have changed this. */
void eng_sched_touch(struct eng_proc *proc);
void eng_sched_leave(struct eng_proc *proc);

/* The process waits for `wait`, at most `ms`; negative: without limit. False: no memory. */
bool eng_sched_wait(struct eng_proc *proc, enum eng_wait wait, double ms);
/* The wait is over. */
void eng_sched_wake(struct eng_proc *proc);

/* Runs processes for a while: see eng_turn. */
void eng_sched_turn(struct engine *engine);

/* }==== */

/* {==== dispatch.c: what runs in a process's coroutine ==================================== */

/* Each takes the process as a light userdata and runs in a coroutine. [-1, +0, e] */
int eng_run_boot(lua_State *L);
int eng_run_run(lua_State *L);
int eng_run_upgrade(lua_State *L);
int eng_run_message(lua_State *L);
int eng_run_terminate(lua_State *L);

void eng_push_self(lua_State *L, struct eng_proc *proc); /* [-0, +1, m] */

/* }==== */

/* {==== system.c: OTP's system messages =================================================== */

/* Serves proc->current, or the message that is its second argument. Runs in the process's
 * coroutine, with both as light userdata. [-2, +0, e] */
int eng_run_system(lua_State *L);

/* }==== */

/* {==== spawn.c: processes on request ===================================================== */

void eng_spawn_requested(struct engine *engine, const struct dist_control *control,
                         struct span payload);

/* Replaces `out` by what a process that cannot start ends with: {reason, [{M, F, Args, []}]}, and
 * to erpc {result, error, reason, [{M, F, Args, []}]}. */
void eng_spawn_error(struct buf *out, struct span module, const struct eng_start *start,
                     struct span reason);

/* Replaces `out` by erpc's result: {result, kind, value}, with a stack behind it for an error. */
void eng_erpc_result(struct buf *out, const struct eng_proc *proc, const char *kind,
                     struct span value);

/* }==== */

/* {==== timer.c =========================================================================== */

/* Calls `fire` once, after `ms`, on the loop's thread. It is freed before. NULL: no memory. */
struct eng_timer *eng_timer_start(struct engine *engine, double ms, void (*fire)(void *user),
                                  void *user);
void eng_timer_cancel(struct eng_timer *timer);       /* NULL is fine */
double eng_timer_left(const struct eng_timer *timer); /* ms */

/* erl.send_after: keeps the message and sends it later. Pushes nothing. False: no memory. */
struct eng_alarm;
bool eng_alarm_start(struct eng_handler *handler, struct span ref, double ms,
                     const struct dist_control *control, struct span node, struct span payload);
/* The ms that were left; negative when there is no such one, or an untrusted handler wants to
 * cancel another's. */
double eng_alarm_cancel(struct eng_handler *handler, struct span ref);
/* The handler goes: an untrusted one's are cancelled. */
void eng_alarms_leave(struct eng_handler *handler);
/* The process has ended: what was to be sent to its pid is not. */
void eng_alarms_drop(struct eng_proc *proc);
void eng_alarms_clear(struct engine *engine);

/* }==== */

/* {==== names.c =========================================================================== */

struct eng_name {
    struct eng_name *prev, *next; /* of the same process */
    struct eng_proc *proc;
    UT_hash_handle hh;
    size_t len;
    char text[];
};

/* The process of that name; `any` is the default handler's. NULL when there is none; then `failure`
 * is the reason when it is a handler that failed. */
struct eng_proc *eng_whereis(struct engine *engine, struct span text, struct span *failure);

/* Gives a process one more name. */
bool eng_name_register(struct eng_proc *proc, struct span name, struct err *err);
void eng_names_clear(struct eng_proc *proc);

/* }==== */

/* {==== handler.c ========================================================================= */

enum { ENG_MAX_FAILURES = 5, ENG_FAILURE_SPAN_MS = 10000 };

struct eng_asker;

/* What it has done since it is there. */
struct eng_counters {
    uint64_t messages;
    uint64_t errors;
    uint64_t restarts;
    uint64_t run_ns;
    uint64_t longest_ns; /* slice */
};

struct eng_handler {
    struct engine *engine;
    char *name;
    char *path; /* of its file; NULL: it came as a text */
    bool found_in_folder;
    bool stop_on_failure;
    bool leaving; /* unloaded: it goes with the last of its processes */
    struct eng_policy policy;
    struct eng_policy own_policy;  /* the same while no load has changed it */
    struct eng_timer *leave_timer; /* kills those that are not done with leaving */
    lua_State *L;                  /* its VM; NULL: there was no memory for a new one */
    struct eng_vm *vm;
    struct term_allowance allowance; /* an untrusted one's, of new atoms */
    size_t outside;              /* bytes that it takes outside of the VM: see eng_outside_take */
    bool broken;                 /* the VM has met its limit: it goes with the last process, */
    bool restart;                /* and the registered one starts again in a new VM */
    struct eng_pool *pool;       /* coroutines to borrow */
    struct eng_version *version; /* what its processes are to run; NULL: none has loaded */
    struct eng_version *tried;   /* the last one that was loaded, successfully or not */
    struct eng_proc *loader;     /* runs the top level of `tried`; NULL: no load is going on */
    struct eng_asker *askers;    /* who wait for the outcome of the load */
    uint32_t last_version;
    struct eng_proc *proc;                       /* the registered process; NULL while it is down */
    struct eng_proc *procs;                      /* all of them */
    struct eng_proc *ready;                      /* those that can run, in order */
    struct eng_handler *prev_ready, *next_ready; /* handlers that have such */
    struct buf unfinished;                       /* what io.write has written of a line */
    uint64_t log_since;    /* uv_hrtime of the second in which an untrusted one has logged */
    size_t log_bytes;      /* so many bytes, */
    size_t log_dropped;    /* and so many lines more, which were dropped */
    struct buf warning;    /* the parts of a warning so far */
    struct buf start;      /* the argument of `init`, an external term; may be empty */
    struct buf last_error; /* what went wrong last, for programs: see eng_error */
    struct eng_counters counters;
    struct buf failure; /* why it is down, an external term; empty when it never was */
    uint64_t failures[ENG_MAX_FAILURES]; /* when it failed last, ms of the loop's clock */
    UT_hash_handle hh;                   /* by name, unless it is leaving */
    struct eng_handler *next;
};

/* Makes the VM; nothing is loaded. NULL: no memory. */
struct eng_handler *eng_handler_create(struct engine *engine, const struct eng_script *script,
                                       struct err *err);
void eng_handler_destroy(struct eng_handler *handler);

/* Makes one that the engine knows. Its registered process starts with its first version, or earlier
 * by eng_handler_start. NULL: no memory. */
struct eng_handler *eng_handler_add(struct engine *engine, const struct eng_script *script,
                                    struct err *err);

/* Starts its registered process, which boots when there is a version. */
bool eng_handler_start(struct eng_handler *handler);

/* Its registered process has ended: start it again if it failed, unless it fails too often or
 * there is nothing to run. */
void eng_handler_ended(struct eng_handler *handler, struct span reason);

/* No version of it loads: its processes end, and it stays down. */
void eng_handler_fail(struct eng_handler *handler, struct span reason);

/* Ends its processes with `shutdown`. From now on nobody finds it; it is freed when the last one
 * has gone, which eng_handler_leave looks for. */
void eng_handler_unload(struct eng_handler *handler);
void eng_handler_leave(struct eng_handler *handler);

/* Its VM has met its limit, and the last process has gone: what it ran goes on in a new one. */
void eng_handler_renew(struct eng_handler *handler);

struct eng_handler *eng_handler_find(struct engine *engine, struct span name);

/* From now on it is not found by its name. */
void eng_handler_hide(struct eng_handler *handler);

/* `any`, else `main`, else the only one that the node was started with. */
struct eng_handler *eng_handler_default(struct engine *engine);

/* }==== */

/* {==== limits.c ========================================================================== */

/* The process ends with {limit, kind, max, used}, and subscribers are told. */
void eng_limit_hit(struct eng_proc *proc, const char *kind, size_t max, size_t used);

/* The running process has made a new atom that its handler (`user`) may not make. */
void eng_limit_atoms(void *user);

/* What an untrusted handler has outside of its VM (processes, their messages, timers, monitors,
 * links) may take as much again. False: no more. */
bool eng_outside_take(struct eng_handler *handler, size_t bytes);
void eng_outside_give(struct eng_handler *handler, size_t bytes);

/* Raises: there is no memory, or no more of it for this handler. [-0, +0, e] */
int eng_limit_raise(lua_State *L, const char *function, const char *what);

/* Whether so many bytes fit into a message of the script's. [-0, +0, -] */
bool eng_limit_fits(lua_State *L, size_t len, const char *root, struct err *err);

/* Whether an untrusted process ends as soon as it can be interrupted: it does nothing more that
 * others see. */
bool eng_limit_is_met(const struct eng_proc *proc);

/* Writes what such a reason means; false when it is none. */
bool eng_limit_tell(struct span reason, char *text, size_t size);

/* To be called when engine->over_memory says that a VM has met its limit, with nothing running: its
 * processes end, and it starts afresh. */
void eng_limits_look(struct engine *engine);

/* }==== */

/* {==== sandbox.c: what an untrusted script sees ========================================== */

/* Opens the libraries of which it gets a part. [-0, +0, m] */
void eng_sandbox_open(lua_State *L);

/* Takes away what it does not get, once all is there. [-0, +0, m] */
void eng_sandbox_seal(lua_State *L);

/* Pushes new globals. [-0, +1, m] */
void eng_sandbox_push_environment(lua_State *L, struct span modules);

/* }==== */

/* {==== version.c: a script, compiled, and what it returned ================================= */

struct eng_version {
    struct eng_handler *handler;
    uint32_t number;  /* counted from 1, when it went live; 0 before */
    uint32_t users;   /* processes that run it, and the handler */
    uint64_t since;   /* when it went live, ms since 1970 */
    bool is_text;     /* it came as a text, not from the handler's file */
    bool is_function; /* the script returned one function */
    bool has_run;     /* its table has the function */
    bool has_terminate;
    int chunk_ref; /* the compiled script */
    int env_ref;   /* its globals */
    int files_ref; /* what its `require` looked for: { path = text or false } */
    int value_ref; /* what it returned: a table or a function; LUA_NOREF before */
    int meta_ref;  /* the metatable of every `self` */
    struct buf source;
    bool has_policy; /* what its load wants of the handler */
    struct eng_policy policy;
    struct buf start;   /* the same: the argument of `init`; empty: nothing */
    struct buf modules; /* of a text: a map of names and texts; may be empty */
};

/* A script that comes over the wire. */
struct eng_text {
    struct span source;
    const struct eng_policy *policy; /* NULL: as it was */
    struct span start;               /* the argument of `init`; empty: as it was */
    struct span modules;             /* a map: what its `require` finds, by name; may be empty */
};

/* One with a user. `text` NULL: the handler's file will be read. NULL: no memory. */
struct eng_version *eng_version_create(struct eng_handler *handler, const struct eng_text *text);
struct eng_version *eng_version_take(struct eng_version *version);
void eng_version_drop(struct eng_version *version); /* NULL is fine */

/* A script without what the program `lua` leaves out too: a byte order mark, and a first line that
 * begins with # (its end stays, so that lines keep their numbers). */
struct span eng_skip_start(struct span text);

/* Reads and compiles it; it can run then. */
bool eng_version_compile(struct eng_version *version, struct err *err);

/* Checks what the script returned (on top), and keeps it. Raises an error otherwise. [-1, +0, e] */
void eng_version_accept(lua_State *L, struct eng_version *version);

/* It goes live, with the next number. */
void eng_version_number(struct eng_version *version);

/* Its file, or its handler's name: as messages name it. */
const char *eng_version_file(const struct eng_version *version);

/* From now on the process runs it. */
void eng_version_use(struct eng_proc *proc, struct eng_version *version);

/* Whether the process has to swap versions before it goes on. */
static inline bool eng_version_is_old(const struct eng_proc *proc) {
    return proc->version != proc->handler->version;
}

/* }==== */

/* {==== modules.c ========================================================================= */

/* Gives the environment on top a `require` that knows the modules in the script's folder. [-0, +0,
 * m] */
void eng_modules_open(lua_State *L, struct eng_version *version);

/* The folder that a file is in. */
struct span eng_path_folder(const char *path);

/* }==== */

/* {==== load_options.c ==================================================================== */

struct eng_load_options {
    struct eng_policy policy;
    struct span start;   /* the argument of `init`, in the term that was read; may be empty */
    struct span modules; /* a map, likewise */
};

/* Reads the options of a load: what they do not say of the policy is as the rules say of the name,
 * or else as it is for every script that is not trusted. A script is trusted only when the options
 * say so. To be finished also when it fails; the error names the option. */
bool eng_load_options_read(struct eng_load_options *options, const struct eng_rules *rules,
                           struct span name, struct span term, struct err *err);
void eng_load_options_finish(struct eng_load_options *options);

/* }==== */

/* {==== outside.c: scripts in files that run outside ====================================== */

struct eng_outsider {
    char *name;
    char *path;
    bool found_in_folder;
    bool replaced; /* by a text */
    struct eng_policy policy;
    struct buf source;  /* what was loaded last */
    struct buf modules; /* the same: a map */
    struct eng_outsider *next;
};

struct eng_outsider *eng_outsider_find(struct engine *engine, struct span name);

/* Knows the script from now on, and loads it. False when it can't be read. */
bool eng_outsider_add(struct engine *engine, const struct eng_script *script, struct err *err);

/* Loads what its file has now. */
bool eng_outsider_load(struct engine *engine, struct eng_outsider *outsider,
                       const struct eng_caller *caller, struct err *err);

/* Whether the file is a module of it, and it or another is not as it was loaded. */
bool eng_outsider_modules_changed(struct engine *engine, struct eng_outsider *outsider,
                                  const char *path);
void eng_outsider_remove(struct engine *engine, struct eng_outsider *outsider);
void eng_outsiders_clear(struct engine *engine);

/* }==== */

/* {==== load.c: new versions ============================================================== */

/* Begins to load a new version, from a text or the handler's file. False when it does not compile:
 * nothing else happens then. */
bool eng_load_begin(struct eng_handler *handler, const struct eng_text *text, struct err *err);

/* The same; what comes of it is logged, and told to the caller (NULL: nobody asks) by {ok, Version}
 * or {error, Reason}. A load that is going on gives way to it. */
void eng_load(struct eng_handler *handler, const struct eng_text *text,
              const struct eng_caller *caller);

/* The same with the file, or the text, that the handler runs, or is about to. */
void eng_reload(struct eng_handler *handler, const struct eng_caller *caller);

/* Unloads what runs, and answers ok: the handler's file comes back if a text had replaced it, or
 * goes on to be replaced, with {error, Reason}, when it does not load. */
void eng_unload(struct eng_handler *handler, const struct eng_caller *caller);

/* The process that ran the top level has ended. */
void eng_load_ended(struct eng_handler *handler, const struct eng_proc *loader, struct span reason);

/* Whether it has run too long; the error is then on top of its coroutine. */
bool eng_load_overran(struct eng_proc *proc);

/* Frees what a handler has of versions. */
void eng_load_forget(struct eng_handler *handler);

/* A copy of the version that the handler runs, with its number, for a new VM. NULL: it runs none,
 * or there is no memory. */
struct eng_version *eng_load_copy(struct eng_handler *handler);

/* Loads that; nobody is told when it is live again. */
void eng_load_again(struct eng_handler *handler, struct eng_version *copy);

/* }==== */

/* {==== vm.c: Lua states and their coroutines ============================================= */

/* What a VM's allocator carries: see eng_slice_of. */
struct eng_vm {
    struct eng_slice *slice;
    struct eng_handler *handler;
    struct eng_heap *heap; /* of an untrusted handler; the rest is of one, too */
    size_t used;           /* bytes */
    size_t peak;
    size_t wanted;       /* when there was no more */
    const void *refused; /* the block that was to grow, last, */
    size_t refused_more; /* by so many bytes; 0: it has grown */
    size_t lacking;      /* in this slice, at the most, */
    size_t refusals;     /* so often */
    size_t enough;       /* from here on garbage is collected between slices */
    bool exceeded;       /* it ends */
};

/* Makes handler->L, and what goes with it. */
bool eng_vm_create(struct eng_handler *handler, struct err *err);

/* Frees it. Nothing runs in an untrusted one any more, no finalizer of ours either. */
void eng_vm_destroy(struct eng_handler *handler);

/* After a slice of an untrusted one: garbage is collected if much is taken, or if there was not
 * enough for something; then the VM has met its limit unless that helps, or unless the slice
 * `failed` for it. */
void eng_vm_settle(struct eng_handler *handler, bool failed);

/* Bytes that the VM takes. */
size_t eng_vm_memory(const struct eng_handler *handler);

lua_State *eng_pool_borrow(struct eng_handler *handler, int *ref);
void eng_pool_return(struct eng_handler *handler, lua_State *co, int ref);

/* The handler whose VM this is. [-0, +0, -] */
struct eng_handler *eng_handler_of(lua_State *L);

/* }==== */

/* {==== erl.c: the module `erl`, and what its functions share ============================= */

/* Whether the value at `idx` is erl.noreply. [-0, +0, -] */
bool eng_is_noreply(lua_State *L, int idx);

/* Adds erl's functions to the table on top. [-0, +0, m] */
void eng_erl_open(lua_State *L);

/* The process whose function runs; raises where none does. [-0, +0, e] */
struct eng_proc *eng_running(lua_State *L, const char *function);

/* Raises unless the process can wait here. [-0, +0, e] */
struct eng_proc *eng_may_wait(lua_State *L, const char *function);

/* Where a message goes: a pid, a name of this node, or {name, node}. */
struct eng_dest {
    struct span to;
    struct span node; /* the name's */
    bool is_name;
    uint8_t bytes[4 * 255 + 3]; /* an atom has 255 characters at the most */
};

/* Reads the argument at `idx`, or raises. [-0, +0, e] */
void eng_dest_check(lua_State *L, int idx, const char *function, struct eng_dest *dest);
struct dist_control eng_dest_control(const struct eng_dest *dest, const struct eng_proc *from);

/* }==== */

/* {==== allow.c: whom an untrusted script may reach ======================================= */

/* Each raises when the policy of the process's handler refuses it. [-0, +0, e] */
void eng_allow_dest(lua_State *L, const struct eng_proc *proc, const struct eng_dest *dest,
                    const char *function);
/* The handler's own processes alone. */
void eng_allow_pid(lua_State *L, const struct eng_proc *proc, struct span pid,
                   const char *function);
void eng_allow_rpc(lua_State *L, const struct eng_proc *proc, struct span node, struct span module,
                   struct span function);
/* Always refused to an untrusted script. */
void eng_allow_nothing(lua_State *L, const struct eng_proc *proc, const char *function,
                       const char *target);

/* }==== */

/* {==== wait.c, call.c, signals.c: more of `erl` ========================================== */

extern const luaL_Reg eng_wait_functions[];
extern const luaL_Reg eng_call_functions[];
extern const luaL_Reg eng_signal_functions[];

/* Replaces os.exit. [-0, +0, m] */
void eng_os_exit_open(lua_State *L);

/* A fun called as a function: fun(...) [-n, +1, e] */
int eng_call_fun(lua_State *L);

/* The milliseconds at `idx`, 0 at least; -1 when there is no limit. [-0, +0, e] */
double eng_check_ms(lua_State *L, int idx, double otherwise);

/* Gives up the turn of a process whose end has begun. [-0, +0, e] */
int eng_leave(lua_State *L, struct eng_proc *proc);

/* Lets the process wait, at most `ms` (negative: without limit), and go on in `k`. [-0, +0, e] */
int eng_wait(lua_State *L, struct eng_proc *proc, enum eng_wait wait, double ms,
             lua_KContext context, lua_KFunction k);

/* }==== */

/* {==== output.c ========================================================================== */

enum { ENG_MAX_UNFINISHED = 64 << 10 }; /* a line that grows beyond leaves in parts */

/* Sets `print`, `io.write`, `erl.log` and where warnings go. Expects the table `erl` on top. [-0,
 * +0, m] */
void eng_output_open(lua_State *L);

/* Whether the log takes a line of that many bytes more of the handler, which is counted: an
 * untrusted one must not fill it. */
bool eng_may_log(struct eng_handler *handler, size_t len);

/* The handler writes no more: what io.write left unfinished leaves as a line. */
void eng_output_finish(struct eng_handler *handler);

/* }==== */

/* {==== reason.c: exit reasons as external terms ========================================== */

/* Each replaces `out`. Without memory the reason is the atom `system_limit`. */
void eng_reason_atom(struct buf *out, const char *name);
void eng_reason_undef(struct buf *out, struct span body);
void eng_reason_text(struct buf *out, const char *kind, struct span text); /* {kind, "text"} */
void eng_reason_limit(struct buf *out, const char *kind, size_t max, size_t used);
void eng_reason_copy(struct buf *out, struct span reason);

/* Whether it is normal, shutdown or {shutdown, _}: no failure. */
bool eng_reason_is_quiet(struct span reason);

/* }==== */

/* {==== error.c: what went wrong in a script ============================================= */

struct eng_error {
    struct buf reason; /* {:lua_error, value, text}: from the line of the script on, see `text` */
    struct buf text;   /* message, line of the script, traceback, what was handled, version */
    struct buf map;    /* the same for programs, an external term; empty without memory */
};

/* From the error's value on top of `co`, which stays; NULL: there was no memory for a coroutine.
 * Without a process the version that the handler has tried has failed. [-0, +0, -] */
void eng_error_make(struct eng_error *error, struct eng_handler *handler,
                    const struct eng_proc *proc, lua_State *co);

/* For an end with such a reason. */
void eng_error_plain(struct eng_error *error, struct eng_handler *handler,
                     const struct eng_proc *proc, struct span reason);

/* A source that does not compile: that of an evaluation, or (NULL) the version that the handler has
 * tried. */
void eng_error_compile(struct eng_error *error, struct eng_handler *handler,
                       const struct span *source, const char *message);

void eng_error_keep(struct buf *map, struct eng_error *error); /* moves its map there */
void eng_error_finish(struct eng_error *error);

/* }==== */

/* {==== services.c: the processes that are part of the node =============================== */

bool eng_services_start(struct engine *engine);
void eng_services_stop(struct engine *engine);

/* A message for one of them, which owns it from now on. What a script sends waits until its slice
 * is over: the services may run Lua, or end processes, in other VMs and in its own. */
void eng_service_deliver(struct eng_proc *proc, struct eng_mail *mail);
void eng_services_turn(struct engine *engine);

/* }==== */

/* {==== files.c: the scripts' folders ====================================================== */

struct eng_files;

/* Watches the folders of the scripts, and those named in the configuration for new ones. */
bool eng_files_start(struct engine *engine, const struct eng_config *config, struct err *err);
void eng_files_stop(struct engine *engine);

/* Watches the folder of a module too, from before it is read. */
void eng_files_watch(struct engine *engine, const char *path);

/* }==== */

/* {==== clients.c: who is told things ====================================================== */

struct eng_client {
    struct eng_client *next;
    struct span pid;
    struct span ref; /* of the monitor on it */
    bool subscribed; /* to events */
    int env_ref;     /* a prompt's globals in the scratchpad; LUA_NOREF: none yet */
    uint8_t bytes[];
};

struct eng_client *eng_client_find(const struct engine *engine, struct span pid);

/* The one that is known, or a new one. NULL: it is dead, or there is no memory. */
struct eng_client *eng_client_add(struct engine *engine, struct span pid);
void eng_client_forget(struct engine *engine, struct eng_client *client);
void eng_client_died(struct engine *engine, struct span ref);
void eng_clients_clear(struct engine *engine);

/* Opens a message to a client; NULL when it can't be sent, or the client's node does not read. What
 * is not complete is not sent. */
struct buf *eng_client_begin(struct engine *engine, struct span pid);
void eng_client_end(struct engine *engine, bool complete);

/* Tells the subscribers. `details`: a map. */
void eng_event(struct eng_handler *handler, const char *event, struct span details);

/* The same with details made of up to two numbers (a key is NULL: without), a reason, a limit. */
void eng_event_numbers(struct eng_handler *handler, const char *event, const char *key1,
                       uint64_t value1, const char *key2, uint64_t value2);
void eng_event_text(struct eng_handler *handler, const char *event, const char *reason);
void eng_event_limit(struct eng_handler *handler, const char *kind, size_t max, size_t used);

/* }==== */

/* {==== eval.c, complete.c ================================================================ */

struct eng_eval {
    struct eng_eval *prev, *next; /* all that there are */
    struct eng_proc *proc;
    struct eng_caller caller; /* who gets the values */
    struct span prompt;       /* the pid that gets what is printed; may be empty */
    struct span source;
    struct buf values;     /* what the caller gets */
    struct buf unfinished; /* what it has printed of a line */
    bool answered;
    uint8_t bytes[];
};

/* Where things run that belong to no handler; made when it is first used. NULL: no memory. */
struct eng_handler *eng_scratchpad(struct engine *engine);

/* Runs the source in a process of its own; `client` is the prompt that it came from, or NULL. The
 * caller gets {ok, [Value]} or {error, Reason}. */
void eng_eval(struct eng_handler *handler, struct eng_client *client, struct span source,
              const struct eng_caller *caller);

/* What the source sees as globals. [-0, +1, m] */
void eng_eval_push_environment(lua_State *L, struct eng_handler *handler,
                               struct eng_client *client);

int eng_eval_run(lua_State *L, struct eng_proc *proc); /* [-0, +0, e] */

/* The process has ended: who has no answer gets the reason. */
void eng_eval_ended(struct eng_proc *proc, struct span reason);
void eng_eval_free(struct eng_proc *proc); /* without one: nothing */

/* Ends the evaluations of a prompt; the one whose caller, by the reference of his call, has given
 * up.
 */
void eng_evals_end(struct engine *engine, struct span prompt, const char *why);
void eng_evals_given_up(struct engine *engine, struct span given_up);

/* What the running process prints goes to its prompt; false when it has none. `whole`: a line's end
 * follows. The second is for what is left of a line. */
bool eng_eval_print(struct engine *engine, struct span text, bool whole);
void eng_eval_flush(struct eng_proc *proc);

/* Appends the list of what the last word of `text` may become. */
bool eng_complete(struct eng_handler *handler, struct eng_client *client, struct span text,
                  struct buf *out);

/* }==== */

/* {==== check_untrusted.c ================================================================= */

/* Warns of what the script that the handler has tried to load uses and will not get, when it is not
 * trusted. Writes to standard error. */
void eng_check_untrusted(struct eng_handler *handler);

/* }==== */

/* {==== control.c, report.c =============================================================== */

void eng_control_serve(struct eng_proc *proc, struct eng_mail *mail);

/* Append the answers to :handlers and :stats. */
bool eng_report_handlers(struct engine *engine, struct buf *out);
bool eng_report_stats(struct engine *engine, struct buf *out);

/* }==== */

/* {==== engine.c ========================================================================== */

struct engine {
    uv_loop_t *loop;
    struct log *log;
    struct eng_events events;
    void *user;
    struct eng_outside outside; /* without functions: every handler runs here */
    struct eng_outsider *outsiders;
    uint16_t slot;
    struct dist_node *node;
    struct term_atoms *atoms;
    struct eng_slice slice;
    struct eng_files *files;              /* NULL: nothing is watched */
    struct eng_rules rules;               /* for handlers that are not there yet */
    struct eng_handler *handlers;         /* in the order in which they came, */
    struct eng_handler *handlers_by_name; /* and those that are not leaving in a uthash */
    size_t handler_count;
    char *only; /* name of the one handler the node was started with; NULL: there were more */
    struct eng_handler *ready; /* those with a process that can run, in order */
    struct eng_proc *net_kernel;
    struct eng_proc *control; /* the process `lunode` */
    struct eng_client *clients;
    struct eng_eval *evals;
    struct eng_handler *scratchpad; /* NULL: nobody has used it */
    uint64_t begun_ns;
    struct eng_proc *printer;        /* the group leader of what this node runs elsewhere */
    struct eng_proc *procs;          /* uthash */
    struct eng_monitor *monitors;    /* uthash */
    struct eng_watch *watches;       /* uthash */
    struct eng_link *links;          /* uthash */
    struct eng_name *names;          /* uthash */
    struct eng_alarm *alarms;        /* uthash */
    struct eng_unreached *unreached; /* uthash */
    struct eng_proc *blocked;        /* those that wait for a peer to read */
    struct eng_proc *dying;          /* those to be buried */
    struct eng_proc *running;
    struct eng_proc *interrupted; /* not in the queue yet: what the sockets bring comes first */
    struct dist_peer *in_peer;    /* whose frame is being handled; NULL: none */
    struct dist_peer *out_peer;   /* of the open message; NULL: another, or none */
    struct dist_peer *crowded;    /* what the running process has sent too much to */
    struct buf out_local;         /* the open message, unless it is a peer's frame */
    struct span out_node;         /* where that one goes; points into out_name */
    uint8_t out_name[4 * 255];
    struct buf scratch; /* a term on its way to somewhere */
    uint32_t origin;    /* the atom of the node that the last message came from; 0: none yet */
    struct buf owner;   /* the name of the node it belongs to */
    uint64_t last_id;
    uint64_t last_ref;
    int32_t last_unlink;
    bool over_memory;      /* see eng_limits_look */
    bool has_untrusted;    /* there was an untrusted handler, so these count: */
    uint64_t asked_ns;     /* when the thread's processor time was asked for last, uv_hrtime's */
    uint64_t processor_ns; /* what it was then, or after a long slice since then */
    bool started;
    bool stopping;
};

/* }==== */

/* {==== route.c: where an incoming message goes =========================================== */

/* `node` is the name of the one that it comes from; empty: this one. */
void eng_route(struct engine *engine, struct span node, const struct dist_control *control,
               struct span payload);

/* }==== */

#endif
