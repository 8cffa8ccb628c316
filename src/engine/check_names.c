/* The parts of Lua's libraries that a script which is not trusted gets: see check_names.h. */
#include "engine/check_names.h"

#include <stddef.h>
#include <string.h>

/* Each with a space behind it. */
static const struct {
    const char *library; /* "": the globals that are no libraries */
    const char *names;
} libraries[] = {
    {"",
     "_G _VERSION assert atom collectgarbage erl error getmetatable ipairs load next pairs pcall "
     "print rawequal rawget rawlen rawset require select setmetatable tonumber tostring type "
     "xpcall "},
    {"coroutine", "close create isyieldable resume running status wrap yield "},
    {"debug", "traceback "},
    {"math",
     "abs acos asin atan ceil cos deg exp floor fmod huge log max maxinteger min mininteger "
     "modf pi rad random randomseed sin sqrt tan tointeger type ult "},
    {"os", "clock date difftime time "},
    {"string", "byte char find format gmatch gsub len lower match pack packsize rep reverse sub "
               "unpack upper "},
    {"table", "concat insert move pack remove sort unpack "},
    {"utf8", "char charpattern codepoint codes len offset "},
};

static bool has_word(const char *words, struct span word) {
    for (const char *at = words; *at != '\0'; at = strchr(at, ' ') + 1) {
        if (span_equal(span_of(at, strcspn(at, " ")), word)) {
            return true;
        }
    }
    return false;
}

bool eng_check_has(struct span name, struct span field) {
    for (size_t i = 1; i < sizeof libraries / sizeof *libraries; i++) {
        if (span_equal(name, span_str(libraries[i].library))) {
            return field.len == 0 || has_word(libraries[i].names, field);
        }
    }
    return has_word(libraries[0].names, name);
}
