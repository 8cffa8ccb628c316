/* A Lua source as a row of tokens: see tokens.h. */
#include "engine/tokens.h"

#include <ctype.h>
#include <stdlib.h>

struct lexer {
    const uint8_t *at;
    const uint8_t *end;
    int line;
};

static int peek(const struct lexer *lexer, size_t ahead) {
    return ahead < (size_t)(lexer->end - lexer->at) ? lexer->at[ahead] : -1;
}

static void skip(struct lexer *lexer, size_t count) {
    for (; count > 0 && lexer->at < lexer->end; count--) {
        lexer->line += *lexer->at++ == '\n';
    }
}

/* {==== Strings and comments ============================================================== */

/* The number of = in a long bracket that opens here; -1 when none does. */
static int long_level(const struct lexer *lexer) {
    int level = 0;
    while (peek(lexer, (size_t)level + 1) == '=') {
        level++;
    }
    return peek(lexer, 0) == '[' && peek(lexer, (size_t)level + 1) == '[' ? level : -1;
}

static bool closes(const struct lexer *lexer, int level) {
    for (int i = 1; i <= level; i++) {
        if (peek(lexer, (size_t)i) != '=') {
            return false;
        }
    }
    return peek(lexer, 0) == ']' && peek(lexer, (size_t)level + 1) == ']';
}

/* Gives what stands in it. */
static struct span take_long(struct lexer *lexer, int level) {
    skip(lexer, (size_t)level + 2);
    const uint8_t *start = lexer->at;
    while (lexer->at < lexer->end && !closes(lexer, level)) {
        skip(lexer, 1);
    }
    struct span text = span_of(start, (size_t)(lexer->at - start));
    skip(lexer, (size_t)level + 2);
    return text;
}

static struct span take_quoted(struct lexer *lexer) {
    int quote = peek(lexer, 0);
    skip(lexer, 1);
    const uint8_t *start = lexer->at;
    while (lexer->at < lexer->end && peek(lexer, 0) != quote) {
        skip(lexer, peek(lexer, 0) == '\\' ? 2 : 1);
    }
    struct span text = span_of(start, (size_t)(lexer->at - start));
    skip(lexer, 1);
    return text;
}

/* Behind the two dashes. */
static void skip_comment(struct lexer *lexer) {
    int level = long_level(lexer);
    if (level >= 0) {
        take_long(lexer, level);
        return;
    }
    while (lexer->at < lexer->end && peek(lexer, 0) != '\n') {
        skip(lexer, 1);
    }
}

static void skip_space(struct lexer *lexer) {
    for (;;) {
        if (lexer->at < lexer->end && isspace(peek(lexer, 0))) {
            skip(lexer, 1);
        } else if (peek(lexer, 0) == '-' && peek(lexer, 1) == '-') {
            skip(lexer, 2);
            skip_comment(lexer);
        } else {
            return;
        }
    }
}

/* }==== */

/* {==== Tokens ============================================================================ */

static bool is_word(int c) {
    return c == '_' || (c >= 0 && isalnum(c));
}

static struct span take_word(struct lexer *lexer, bool is_number) {
    const uint8_t *start = lexer->at;
    while (is_word(peek(lexer, 0)) || (is_number && peek(lexer, 0) == '.')) {
        skip(lexer, 1);
    }
    return span_of(start, (size_t)(lexer->at - start));
}

/* Of several characters where one of them alone would mean something else here. */
static struct span take_operator(struct lexer *lexer) {
    static const char *const operators[] = {"...", "..", "==", "~=", "<=", ">=", "::"};
    struct span rest = span_of(lexer->at, (size_t)(lexer->end - lexer->at));
    struct span text = span_of(rest.data, 1);
    for (size_t i = sizeof operators / sizeof *operators; i > 0; i--) {
        size_t len = strlen(operators[i - 1]);
        if (len <= rest.len && memcmp(rest.data, operators[i - 1], len) == 0) {
            text.len = len;
        }
    }
    skip(lexer, text.len);
    return text;
}

static struct eng_token take(struct lexer *lexer) {
    skip_space(lexer);
    struct eng_token token = {.line = lexer->line};
    int c = peek(lexer, 0);
    if (c < 0) {
        token.kind = ENG_TOKEN_END;
    } else if (c == '"' || c == '\'') {
        token.kind = ENG_TOKEN_STRING;
        token.text = take_quoted(lexer);
    } else if (long_level(lexer) >= 0) {
        token.kind = ENG_TOKEN_STRING;
        token.text = take_long(lexer, long_level(lexer));
    } else if (is_word(c)) {
        token.kind = isdigit(c) ? ENG_TOKEN_NUMBER : ENG_TOKEN_NAME;
        token.text = take_word(lexer, isdigit(c));
    } else {
        token.kind = ENG_TOKEN_OTHER;
        token.text = take_operator(lexer);
    }
    return token;
}

bool eng_tokens_read(struct eng_tokens *tokens, struct span source) {
    const uint8_t *start = source.len == 0 ? (const uint8_t *)"" : source.data;
    struct lexer lexer = {start, start + source.len, 1};
    struct buf all = {0};
    struct eng_token token;
    do {
        token = take(&lexer);
        if (!buf_append(&all, &token, sizeof token)) {
            buf_finish(&all);
            return false;
        }
    } while (token.kind != ENG_TOKEN_END);
    tokens->all = (struct eng_token *)(void *)all.data; /* malloc's, and so aligned */
    tokens->count = all.len / sizeof token;
    return true;
}

void eng_tokens_finish(struct eng_tokens *tokens) {
    free(tokens->all);
}

bool eng_token_is(const struct eng_token *token, const char *text) {
    return token->kind != ENG_TOKEN_STRING && span_equal(token->text, span_str(text));
}

/* }==== */
