/* Watching the scripts' folders: what is saved is loaded, what is new is started, what is gone is
 * unloaded. Folders are watched, not files, since editors write a new file and rename it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <utlist.h>

#include "base/file.h"
#include "engine/private.h"

enum {
    SETTLE_MS = 15,    /* after a change: more may follow */
    GONE_MS = 400,     /* a file that is away, or empty, for so long is meant to be */
    LOST_MS = 2000,    /* how often a folder that has gone is looked for */
    LOOK_NS = 2000000, /* at files, without a turn of the others */
    MAX_PATH = 4096,
};

/* A folder, watched under the name that paths in it begin with. */
struct eng_folder {
    struct eng_folder *next;
    struct eng_files *files;
    uv_fs_event_t event;
    bool watched;
    ino_t inode;
    bool of_handlers; /* each script in it is a handler */
    bool of_scripts;  /* false: it only has a link that leads to others */
    char path[];
};

/* A file that something has happened to, and is to be looked at. */
struct eng_touched {
    struct eng_touched *next;
    uint64_t since; /* ms of the loop's clock */
    bool looked_at; /* and it has to be again, when it has settled */
    char path[];
};

struct eng_files {
    struct engine *engine;
    struct eng_folder *folders;
    struct eng_touched *touched;
    uv_timer_t timer;
    bool all;  /* anything may have changed */
    bool lost; /* a folder is not there */
};

/* {==== What has happened ================================================================= */

static void look_after(struct eng_files *files, uint64_t ms);

static void touch(struct eng_files *files, const char *path) {
    struct eng_touched *touched = files->touched;
    while (touched != NULL && strcmp(touched->path, path) != 0) {
        touched = touched->next;
    }
    size_t size = strlen(path) + 1;
    if (touched == NULL) {
        touched = malloc(sizeof *touched + size);
        if (touched == NULL) {
            return;
        }
        memcpy(touched->path, path, size);
        LL_PREPEND(files->touched, touched);
    }
    touched->since = uv_now(files->engine->loop);
    touched->looked_at = false;
}

/* Whether nothing has happened to the file for so long that it is meant to be as it is. */
static bool has_settled(const struct eng_files *files, const struct eng_touched *touched) {
    return uv_now(files->engine->loop) - touched->since >= GONE_MS;
}

/* Editors leave many files about: only scripts count, and folders and links, which may lead to
 * some. */
static bool may_lead_to_scripts(const char *path) {
    struct stat file;
    return lstat(path, &file) == 0 && (S_ISDIR(file.st_mode) || S_ISLNK(file.st_mode));
}

/* What happens to the folder itself comes under its own name. */
static bool is_itself(const struct eng_folder *folder, const char *name) {
    const char *slash = strrchr(folder->path, '/');
    return strcmp(name, slash == NULL ? folder->path : slash + 1) == 0;
}

/* "./counter.lua" is "counter.lua". */
static const char *plain(const char *path) {
    return strncmp(path, "./", 2) == 0 ? path + 2 : path;
}

/* Whether a watched folder is at the path, or behind it. */
static bool leads_to_folders(const struct eng_files *files, const char *path) {
    size_t len = strlen(plain(path));
    for (const struct eng_folder *folder = files->folders; folder != NULL; folder = folder->next) {
        const char *other = plain(folder->path);
        if (strncmp(other, plain(path), len) == 0 && (other[len] == '/' || other[len] == '\0')) {
            return true;
        }
    }
    return false;
}

/* Notes what is to be looked at because of a change in a folder. False: nothing. Hidden files are
 * the editors', but for `..data` and the like, by which whole folders are exchanged. */
static bool note_change(struct eng_folder *folder, const char *name) {
    char path[MAX_PATH];
    bool hidden = name[0] == '.' && name[1] != '.';
    if ((hidden && folder->of_scripts) ||
        snprintf(path, sizeof path, "%s/%s", folder->path, name) >= MAX_PATH) {
        return false;
    }
    if (folder->of_scripts && eng_config_is_lua(name)) {
        touch(folder->files, path);
        return true;
    }
    bool leads =
        folder->of_scripts ? may_lead_to_scripts(path) : leads_to_folders(folder->files, path);
    folder->files->all |= leads;
    return leads;
}

static void on_event(uv_fs_event_t *event, const char *name, int events, int status) {
    struct eng_folder *folder = event->data;
    (void)events;
    bool itself = name != NULL && is_itself(folder, name);
    bool unknown = status < 0 || name == NULL || itself;
    folder->files->all |= unknown;
    folder->inode = itself ? 0 : folder->inode; /* the next one may have the same number */
    if (unknown || note_change(folder, name)) {
        look_after(folder->files, SETTLE_MS);
    }
}

/* }==== */

/* {==== Folders =========================================================================== */

static bool start(struct eng_folder *folder) {
    struct stat file;
    bool there = stat(folder->path, &file) == 0;
    if (there && folder->watched && folder->inode == file.st_ino) {
        return true;
    }
    if (folder->watched) {
        uv_fs_event_stop(&folder->event);
    }
    folder->watched = there && uv_fs_event_start(&folder->event, on_event, folder->path, 0) == 0;
    folder->inode = there ? file.st_ino : 0;
    return folder->watched;
}

/* Watches those again that were away, or are others by now: anything may have changed in them. */
static void start_again(struct eng_files *files) {
    files->lost = false;
    for (struct eng_folder *folder = files->folders; folder != NULL; folder = folder->next) {
        ino_t inode = folder->inode;
        bool watched = start(folder);
        files->lost |= !watched;
        files->all |= watched && folder->inode != inode;
    }
}

static struct eng_folder *find_folder(struct eng_files *files, struct span path) {
    struct eng_folder *folder = files->folders;
    while (folder != NULL && !span_equal(span_str(folder->path), path)) {
        folder = folder->next;
    }
    return folder;
}

/* Whether the file's folder is away: that says nothing of the file. */
static bool is_lost(struct eng_files *files, const char *path) {
    const struct eng_folder *folder = find_folder(files, eng_path_folder(path));
    return folder != NULL && !folder->watched;
}

/* Watches the folder, once. */
static struct eng_folder *watch_folder(struct eng_files *files, struct span path) {
    struct eng_folder *folder = find_folder(files, path);
    if (folder != NULL) {
        return folder;
    }
    folder = calloc(1, sizeof *folder + path.len + 1);
    if (folder == NULL || uv_fs_event_init(files->engine->loop, &folder->event) != 0) {
        free(folder);
        return NULL;
    }
    memcpy(folder->path, path.data, path.len);
    folder->files = files;
    folder->event.data = folder;
    LL_PREPEND(files->folders, folder);
    if (!start(folder) && folder->inode != 0) {
        log_line(files->engine->log, LOG_LEVEL_WARNING, "lunode",
                 "cannot watch %s: what is saved there is not loaded", folder->path);
    }
    return folder;
}

/* Where a link on the way to a folder leads to shows only in the folder that has the link. */
static void watch_links(struct eng_files *files, struct span path) {
    char way[MAX_PATH];
    struct stat file;
    (void)snprintf(way, sizeof way, "%.*s", (int)path.len, (const char *)path.data);
    while (way[0] != '\0') {
        if (lstat(way, &file) == 0 && S_ISLNK(file.st_mode)) {
            watch_folder(files, eng_path_folder(way));
        }
        char *slash = strrchr(way, '/');
        *(slash == NULL ? way : slash) = '\0';
    }
}

/* A folder that has scripts. */
static struct eng_folder *add_folder(struct eng_files *files, struct span path) {
    struct eng_folder *folder = find_folder(files, path);
    if (folder != NULL && folder->of_scripts) {
        return folder;
    }
    watch_links(files, path);
    folder = watch_folder(files, path);
    if (folder != NULL) {
        folder->of_scripts = true;
    }
    return folder;
}

/* Runs protected. Expects the files and the table of what `require` looked for. [-2, +0, m] */
static int touch_modules(lua_State *L) {
    struct eng_files *files = lua_touserdata(L, 1);
    lua_pushnil(L);
    while (lua_next(L, 2) != 0) {
        lua_pop(L, 1);
        touch(files, lua_tostring(L, -1));
    }
    return 0;
}

static void touch_modules_of(struct eng_files *files, const struct eng_version *version) {
    if (version == NULL || version->files_ref == LUA_NOREF) {
        return;
    }
    lua_State *L = version->handler->L;
    lua_pushcfunction(L, touch_modules);
    lua_pushlightuserdata(L, files);
    lua_rawgeti(L, LUA_REGISTRYINDEX, version->files_ref);
    if (lua_pcall(L, 2, 0, 0) != LUA_OK) {
        lua_pop(L, 1);
    }
}

void eng_files_watch(struct engine *engine, const char *path) {
    if (engine->files != NULL) {
        add_folder(engine->files, eng_path_folder(path));
    }
}

/* }==== */

/* {==== What a change means =============================================================== */

enum change { SAME, CHANGED, GONE, UNSURE };

/* Whether the file has other bytes than those that were loaded. One that is there but can't be read
 * has not gone: the load that is tried then says why, and once, for nothing was loaded by it. */
static enum change compare(const char *path, struct span loaded) {
    struct buf now = {0};
    struct err err;
    enum change change;
    if (file_read(path, &now, &err)) {
        change = span_equal(buf_span(&now), loaded) ? SAME : now.len == 0 ? UNSURE : CHANGED;
    } else if (errno == ENOENT || errno == ENOTDIR) {
        change = GONE;
    } else {
        change = loaded.len == 0 ? SAME : UNSURE;
    }
    buf_finish(&now);
    return change;
}

/* The last version that was loaded from the handler's file, successfully or not: a text that did
 * not load has no say in it. NULL: there is none. */
static const struct eng_version *from_file(const struct eng_handler *handler) {
    const struct eng_version *tried = handler->tried;
    if (tried == NULL || !tried->is_text) {
        return tried;
    }
    const struct eng_version *version = handler->version;
    return version == NULL || version->is_text ? NULL : version;
}

/* What became of a handler's own file. */
static enum change own_change(const struct eng_handler *handler) {
    const struct eng_version *tried = from_file(handler);
    return compare(handler->path, tried == NULL ? (struct span){0} : buf_span(&tried->source));
}

/* What became of a module of the version, or of one that it has looked for in vain: a module that
 * has gone is kept. [-0, +0, m] */
static enum change module_change(lua_State *L, int files_ref, const char *path) {
    size_t len;
    enum change change = SAME;
    lua_rawgeti(L, LUA_REGISTRYINDEX, files_ref);
    lua_pushstring(L, path);
    lua_rawget(L, -2);
    const char *text = lua_tolstring(L, -1, &len);
    if (text != NULL) {
        change = compare(path, span_of(text, len));
    } else if (lua_isboolean(L, -1)) {
        change = compare(path, (struct span){0});
        change = change == SAME ? UNSURE : change; /* there is one, with nothing in it yet */
    }
    lua_pop(L, 2);
    return change == GONE ? SAME : change;
}

struct module_question {
    int files_ref;
    const char *path;
    enum change change;
};

/* Runs protected. Expects the question as a light userdata. [-1, +0, m] */
static int ask_module(lua_State *L) {
    struct module_question *question = lua_touserdata(L, 1);
    question->change = module_change(L, question->files_ref, question->path);
    return 0;
}

/* True when it is done; false when it has to be looked at again. */
static bool module_changed(struct eng_handler *handler, const char *path, bool settled) {
    lua_State *L = handler->L;
    const struct eng_version *version = from_file(handler);
    if (version == NULL || version->files_ref == LUA_NOREF) {
        return true;
    }
    struct module_question question = {version->files_ref, path, SAME};
    lua_pushcfunction(L, ask_module);
    lua_pushlightuserdata(L, &question);
    if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
        lua_pop(L, 1);
    }
    if (question.change == CHANGED || (question.change == UNSURE && settled)) {
        eng_load(handler, NULL, NULL);
    }
    return question.change != UNSURE || settled;
}

static bool is_replaced(const struct eng_handler *handler) {
    return handler->version != NULL && handler->version->is_text;
}

/* The file of a handler has gone: one that was found in a folder goes with it. */
static void remove_handler(struct eng_handler *handler) {
    if (is_replaced(handler)) {
        return;
    }
    if (!handler->found_in_folder) {
        log_line(handler->engine->log, LOG_LEVEL_WARNING, handler->name,
                 "%s has gone: what was loaded goes on", handler->path);
        return;
    }
    log_line(handler->engine->log, LOG_LEVEL_INFO, handler->name, "%s has gone: unloaded",
             handler->path);
    eng_handler_unload(handler);
}

/* True when it is done; false when it has to be looked at again. */
static bool own_file_changed(struct eng_handler *handler, bool settled) {
    enum change change = own_change(handler);
    if ((change == GONE || change == UNSURE) && !settled) {
        return false;
    }
    if (change == GONE && is_lost(handler->engine->files, handler->path)) {
        return true; /* it is looked at again when the folder is there again */
    }
    if (change == GONE) {
        remove_handler(handler);
    } else if (change != SAME && !is_replaced(handler)) {
        eng_load(handler, NULL, NULL);
    }
    return true;
}

/* A script that is no handler yet, in a folder of handlers. */
static void add_handler(struct eng_files *files, const char *path) {
    struct engine *engine = files->engine;
    struct eng_folder *folder = find_folder(files, eng_path_folder(path));
    struct eng_config found;
    struct stat file;
    struct err err;
    if (folder == NULL || !folder->of_handlers || stat(path, &file) != 0 ||
        !S_ISREG(file.st_mode) || !eng_config_is_script(strrchr(path, '/') + 1)) {
        return;
    }
    eng_config_init(&found);
    if (!eng_config_add_path(&found, path, &err) ||
        !eng_rules_of_file(&engine->rules, found.scripts[0].name, &found.scripts[0].policy, &err)) {
        log_line(engine->log, LOG_LEVEL_ERROR, "lunode", "%s", err.text);
    } else if (eng_handler_find(engine, span_str(found.scripts[0].name)) != NULL) {
        log_line(engine->log, LOG_LEVEL_ERROR, "lunode", "%s: there is a handler of that name",
                 path);
    } else if (!found.scripts[0].policy.trusted && engine->outside.load != NULL) {
        found.scripts[0].found_in_folder = true;
        if (!eng_outsider_add(engine, &found.scripts[0], &err)) {
            log_line(engine->log, LOG_LEVEL_ERROR, "lunode", "%s", err.text);
        }
    } else {
        found.scripts[0].found_in_folder = true;
        struct eng_handler *handler = eng_handler_add(engine, &found.scripts[0], &err);
        if (handler != NULL && eng_handler_start(handler)) {
            log_line(engine->log, LOG_LEVEL_INFO, handler->name, "%s is new: loaded", path);
            eng_load(handler, NULL, NULL);
        }
    }
    eng_config_finish(&found);
}

/* The same for one that runs outside. */
static bool outsider_changed(struct eng_files *files, struct eng_outsider *outsider, bool settled) {
    struct engine *engine = files->engine;
    struct err err;
    enum change change = compare(outsider->path, buf_span(&outsider->source));
    if ((change == GONE || change == UNSURE) && !settled) {
        return false;
    }
    if (outsider->replaced || change == SAME) {
        return true;
    }
    if (change != GONE) {
        if (!eng_outsider_load(engine, outsider, NULL, &err)) {
            log_line(engine->log, LOG_LEVEL_ERROR, outsider->name, "%s", err.text);
        }
    } else if (outsider->found_in_folder && !is_lost(files, outsider->path)) {
        log_line(engine->log, LOG_LEVEL_INFO, outsider->name, "%s has gone: unloaded",
                 outsider->path);
        engine->outside.request(engine->outside.user, ENG_UNLOAD, span_str(outsider->name),
                                (struct span){0}, NULL);
        eng_outsider_remove(engine, outsider);
    }
    return true;
}

/* True when nothing more is to be done about the file. */
static bool look_at(struct eng_files *files, const struct eng_touched *touched) {
    bool settled = has_settled(files, touched);
    bool known = false;
    bool done = true;
    struct eng_handler *handler;
    struct eng_handler *next;
    LL_FOREACH_SAFE(files->engine->handlers, handler, next) {
        if (handler->leaving || handler->path == NULL) {
            continue;
        }
        if (strcmp(plain(handler->path), plain(touched->path)) == 0) {
            known = true;
            done = own_file_changed(handler, settled) && done;
        } else {
            done = module_changed(handler, touched->path, settled) && done;
        }
    }
    struct eng_outsider *outsider;
    struct eng_outsider *following;
    struct err err;
    LL_FOREACH_SAFE(files->engine->outsiders, outsider, following) {
        if (strcmp(plain(outsider->path), plain(touched->path)) == 0) {
            known = true;
            done = outsider_changed(files, outsider, settled) && done;
        } else if (!outsider->replaced &&
                   eng_outsider_modules_changed(files->engine, outsider, touched->path) &&
                   !eng_outsider_load(files->engine, outsider, NULL, &err)) {
            log_line(files->engine->log, LOG_LEVEL_ERROR, outsider->name, "%s", err.text);
        }
    }
    if (!known) {
        add_handler(files, touched->path);
    }
    return done;
}

/* }==== */

/* {==== Looking =========================================================================== */

static void touch_scripts_in(struct eng_files *files, const char *folder) {
    uv_fs_t request;
    uv_dirent_t entry;
    char path[MAX_PATH];
    int count = uv_fs_scandir(NULL, &request, folder, 0, NULL);
    while (count >= 0 && uv_fs_scandir_next(&request, &entry) != UV_EOF) {
        if (eng_config_is_script(entry.name) &&
            snprintf(path, sizeof path, "%s/%s", folder, entry.name) < MAX_PATH) {
            touch(files, path);
        }
    }
    uv_fs_req_cleanup(&request);
}

/* A folder or a link has changed: each handler, and each folder, is to be looked at. */
static void touch_all(struct eng_files *files) {
    files->all = false;
    for (struct eng_folder *folder = files->folders; folder != NULL; folder = folder->next) {
        if (folder->of_handlers) {
            touch_scripts_in(files, folder->path);
        }
    }
    struct eng_handler *handler;
    LL_FOREACH(files->engine->handlers, handler) {
        if (handler->path != NULL && !handler->leaving) {
            touch(files, handler->path);
            touch_modules_of(files, from_file(handler));
        }
    }
    struct eng_outsider *outsider;
    LL_FOREACH(files->engine->outsiders, outsider) {
        touch(files, outsider->path);
    }
}

enum looked { ALL_DONE, SOME_WAIT, TIME_OVER };

/* Looks at what was touched, for a while: many files must not hold up everybody else. */
static enum looked look_at_touched(struct eng_files *files) {
    uint64_t end = uv_hrtime() + LOOK_NS;
    enum looked looked = ALL_DONE;
    struct eng_touched *touched;
    struct eng_touched *next;
    LL_FOREACH_SAFE(files->touched, touched, next) {
        if (touched->looked_at && !has_settled(files, touched)) {
            looked = SOME_WAIT;
        } else if (uv_hrtime() > end) {
            return TIME_OVER;
        } else if (look_at(files, touched)) {
            LL_DELETE(files->touched, touched);
            free(touched);
        } else {
            touched->looked_at = true;
            looked = SOME_WAIT;
        }
    }
    return looked;
}

static void on_timer(uv_timer_t *timer) {
    struct eng_files *files = timer->data;
    if (files->engine->stopping) {
        return;
    }
    if (files->all || files->lost) {
        start_again(files);
    }
    if (files->all) {
        touch_all(files);
    }
    enum looked looked = look_at_touched(files);
    if (looked == TIME_OVER) {
        look_after(files, 1);
    } else if (looked == SOME_WAIT || files->lost) {
        look_after(files, looked == SOME_WAIT ? GONE_MS : LOST_MS);
    }
}

/* The first of many changes begins the wait, or a file that is written all the time would never be
 * loaded. */
static void look_after(struct eng_files *files, uint64_t ms) {
    if (!uv_is_active((uv_handle_t *)&files->timer) || uv_timer_get_due_in(&files->timer) > ms) {
        uv_timer_start(&files->timer, on_timer, ms, 0);
    }
}

/* }==== */

/* {==== Beginning and end ================================================================= */

bool eng_files_start(struct engine *engine, const struct eng_config *config, struct err *err) {
    struct eng_files *files = calloc(1, sizeof *files);
    if (files == NULL) {
        return err_set(err, "no memory to watch the scripts");
    }
    engine->files = files;
    files->engine = engine;
    uv_timer_init(engine->loop, &files->timer);
    files->timer.data = files;
    for (size_t i = 0; i < config->folder_count; i++) {
        struct eng_folder *folder = add_folder(files, span_str(config->folders[i]));
        if (folder != NULL) {
            folder->of_handlers = true;
        }
    }
    for (size_t i = 0; i < config->count; i++) {
        add_folder(files, eng_path_folder(config->scripts[i].path));
    }
    return true;
}

static void free_folder(uv_handle_t *handle) {
    free(handle->data);
}

static void free_files(uv_handle_t *handle) {
    free(handle->data);
}

void eng_files_stop(struct engine *engine) {
    struct eng_files *files = engine->files;
    if (files == NULL) {
        return;
    }
    engine->files = NULL;
    while (files->touched != NULL) {
        struct eng_touched *touched = files->touched;
        LL_DELETE(files->touched, touched);
        free(touched);
    }
    while (files->folders != NULL) {
        struct eng_folder *folder = files->folders;
        LL_DELETE(files->folders, folder);
        uv_close((uv_handle_t *)&folder->event, free_folder);
    }
    uv_close((uv_handle_t *)&files->timer, free_files);
}

/* }==== */
