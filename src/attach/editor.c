/* Editing a line at the terminal, by libedit: it calls us for every character, and while none is
 * there the event loop runs. */
#include <ctype.h>
#include <errno.h>
#include <histedit.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#include "attach/private.h"

enum {
    HISTORY_KEPT = 1000,
    HISTORY_FILE = 4 * HISTORY_KEPT, /* lines; a longer file is shortened */
    DEFAULT_COLUMNS = 80,
};

struct attach_editor {
    struct attach *attach;
    EditLine *el;
    History *history;
    char path[4096]; /* of the file; empty: none */
    const char *prompt;
    bool reading; /* the prompt is on the screen */
};

static struct attach_editor *editor_of(EditLine *el) {
    void *editor = NULL;
    el_get(el, EL_CLIENTDATA, &editor);
    return editor;
}

static char *on_prompt(EditLine *el) {
    return (char *)editor_of(el)->prompt;
}

/* {==== Completion ======================================================================== */

static size_t screen_width(void) {
    struct winsize size;
    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    return known ? size.ws_col : DEFAULT_COLUMNS;
}

/* In as many columns as fit, below the line. */
static void list_names(const struct attach_names *names) {
    size_t width = 0;
    for (size_t i = 0; i < names->count; i++) {
        size_t len = strlen(names->names[i]);
        width = len > width ? len : width;
    }
    width += 2;
    size_t columns = screen_width() / width;
    columns = columns > 0 ? columns : 1;
    size_t rows = (names->count + columns - 1) / columns;
    for (size_t i = 0; i < rows; i++) {
        (void)putchar('\n');
        for (size_t j = i; j < names->count; j += rows) {
            (void)printf("%-*s", j + rows < names->count ? (int)width : 0, names->names[j]);
        }
    }
    (void)putchar('\n');
}

/* What all names have in common comes as if it were typed; when that is nothing, they are listed.
 */
static void use_names(struct attach_editor *editor, const struct attach_names *names) {
    size_t common = attach_names_common(names);
    if (common > names->word) {
        attach_input_insert(editor->attach,
                            span_of(names->names[0] + names->word, common - names->word));
    } else if (names->count > 1) {
        list_names(names);
        el_set(editor->el, EL_REFRESH);
    }
}

static void complete(struct attach_editor *editor) {
    struct attach_names names = {0};
    const LineInfo *line = el_line(editor->el);
    struct span text = span_of(line->buffer, (size_t)(line->cursor - line->buffer));
    if (attach_complete(editor->attach, text, &names)) {
        use_names(editor, &names);
    } else {
        el_beep(editor->el);
    }
    attach_names_finish(&names);
}

/* }==== */

/* {==== Characters ======================================================================== */

/* Takes one off what was typed; bytes that are none are left out. False when no whole one is there.
 */
static bool take_character(struct buf *typed, wchar_t *character) {
    while (typed->len > 0) {
        mbstate_t state = {0};
        size_t n = mbrtowc(character, (const char *)typed->data, typed->len, &state);
        if (n == (size_t)-2) {
            return false;
        }
        buf_consume(typed, n == 0 || n == (size_t)-1 ? 1 : n);
        if (n != (size_t)-1) {
            return true;
        }
    }
    return false;
}

/* A TAB that indents, or is within something pasted. */
static bool is_space(const struct attach_editor *editor) {
    const LineInfo *line = el_line(editor->el);
    const char *at = line->buffer;
    while (at < line->cursor && isspace((unsigned char)*at)) {
        at++;
    }
    return at == line->cursor || editor->attach->typed.len > 0;
}

/* libedit asks for one. 1: there it is, 0: the end, -1: the line is given up. */
static int on_getc(EditLine *el, wchar_t *character) {
    struct attach_editor *editor = editor_of(el);
    struct attach *attach = editor->attach;
    for (;;) {
        if (!take_character(&attach->typed, character)) {
            if (!attach_input_more(attach)) {
                errno = EINTR;
                return attach->interrupted ? -1 : 0;
            }
        } else if (*character != L'\t' || is_space(editor)) {
            *character = *character == L'\t' ? L' ' : *character;
            return 1;
        } else {
            complete(editor);
        }
    }
}

/* }==== */

/* {==== History =========================================================================== */

static void open_history(struct attach_editor *editor) {
    HistEvent event;
    history(editor->history, &event, H_SETSIZE, HISTORY_KEPT);
    history(editor->history, &event, H_SETUNIQUE, 1);
    if (!attach_history_path(editor->path, sizeof editor->path)) {
        editor->path[0] = '\0';
    } else if (history(editor->history, &event, H_LOAD, editor->path) > HISTORY_FILE) {
        history(editor->history, &event, H_SAVE, editor->path);
    }
}

/* Appended at once: other prompts may write to the same file. A history of that line alone is what
 * libedit appends in the file's own form. */
static void append(const char *path, const char *line) {
    HistEvent event;
    History *one = history_init();
    FILE *file = fopen(path, "a");
    if (one != NULL && file != NULL && fseek(file, 0, SEEK_END) == 0) {
        history(one, &event, H_SETSIZE, 1);
        history(one, &event, H_ENTER, line);
        history(one, &event, H_SAVE_FP, file);
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    if (one != NULL) {
        history_end(one);
    }
}

void attach_editor_remember(struct attach_editor *editor, struct span text) {
    HistEvent event;
    struct buf line = {0};
    if (editor != NULL && buf_append(&line, text.data, text.len) && buf_append(&line, "", 1)) {
        history(editor->history, &event, H_ENTER, (const char *)line.data);
        if (editor->path[0] != '\0') {
            append(editor->path, (const char *)line.data);
        }
    }
    buf_finish(&line);
}

/* }==== */

/* {==== The editor ======================================================================== */

static void set_up(struct attach_editor *editor) {
    EditLine *el = editor->el;
    el_set(el, EL_CLIENTDATA, editor);
    el_set(el, EL_PROMPT, on_prompt);
    el_set(el, EL_GETCFN, on_getc);
    el_set(el, EL_HIST, history, editor->history);
    el_set(el, EL_EDITOR, "emacs");
    el_set(el, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_source(el, NULL); /* ~/.editrc */
}

/* Without a locale that knows more than ASCII, UTF-8 is taken: Lua sources are. */
static void set_locale(void) {
    if (setlocale(LC_CTYPE, "") == NULL || MB_CUR_MAX == 1) {
        (void)setlocale(LC_CTYPE, "C.UTF-8");
    }
}

struct attach_editor *attach_editor_create(struct attach *attach) {
    struct attach_editor *editor = calloc(1, sizeof *editor);
    if (editor == NULL) {
        return NULL;
    }
    set_locale();
    editor->attach = attach;
    editor->prompt = "";
    editor->history = history_init();
    editor->el = el_init("lunode", stdin, stdout, stderr);
    if (editor->history == NULL || editor->el == NULL) {
        attach_editor_destroy(editor);
        return NULL;
    }
    open_history(editor);
    set_up(editor);
    return editor;
}

void attach_editor_destroy(struct attach_editor *editor) {
    if (editor == NULL) {
        return;
    }
    if (editor->el != NULL) {
        el_end(editor->el);
    }
    if (editor->history != NULL) {
        history_end(editor->history);
    }
    free(editor);
}

enum attach_read attach_editor_read(struct attach_editor *editor, const char *prompt,
                                    struct buf *line) {
    struct attach *attach = editor->attach;
    int count = 0;
    editor->prompt = prompt;
    editor->reading = true;
    attach->interrupted = false;
    const char *text = el_gets(editor->el, &count);
    editor->reading = false;
    if (attach->interrupted && !attach->over) {
        attach->typed.len = 0;
        (void)fputs("^C\033[J\n", stdout); /* clears what follows */
        return ATTACH_INTERRUPTED;
    }
    if (text == NULL || count <= 0 || attach->over) {
        (void)putchar('\n');
        return ATTACH_END;
    }
    size_t len = (size_t)count;
    len -= text[len - 1] == '\n';
    return buf_append(line, text, len) ? ATTACH_LINE : ATTACH_END;
}

void attach_editor_hide(struct attach_editor *editor) {
    if (editor != NULL && editor->reading) {
        (void)fputs("\r\033[J", stdout); /* to the left, and clear what follows */
    }
}

void attach_editor_show(struct attach_editor *editor) {
    if (editor != NULL && editor->reading) {
        el_set(editor->el, EL_REFRESH);
    }
}

void attach_editor_resize(struct attach_editor *editor) {
    if (editor != NULL) {
        el_resize(editor->el);
    }
}

void attach_editor_suspend(struct attach_editor *editor) {
    if (editor != NULL && editor->reading) {
        (void)putchar('\n');
        (void)fflush(stdout);
        el_set(editor->el, EL_PREP_TERM, 0);
    }
}

/* The shell may have left it in a mode of its own. */
void attach_editor_resume(struct attach_editor *editor) {
    if (editor != NULL && editor->reading) {
        el_set(editor->el, EL_PREP_TERM, 0);
        el_set(editor->el, EL_PREP_TERM, 1);
        el_set(editor->el, EL_REFRESH);
    }
}

/* }==== */
