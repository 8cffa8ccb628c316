/* A Lua source as a row of tokens, without comments: enough to find names, not to parse. */
#ifndef LUNODE_ENGINE_TOKENS_H
#define LUNODE_ENGINE_TOKENS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

enum eng_token_kind {
    ENG_TOKEN_END,
    ENG_TOKEN_NAME,   /* or a keyword */
    ENG_TOKEN_STRING, /* its text is what stands in it, as it is written */
    ENG_TOKEN_NUMBER,
    ENG_TOKEN_OTHER, /* an operator or a bracket */
};

struct eng_token {
    enum eng_token_kind kind;
    int line;
    struct span text; /* in the source */
};

struct eng_tokens {
    struct eng_token *all; /* the last is ENG_TOKEN_END */
    size_t count;
};

/* False: no memory. */
bool eng_tokens_read(struct eng_tokens *tokens, struct span source);
void eng_tokens_finish(struct eng_tokens *tokens);

bool eng_token_is(const struct eng_token *token, const char *text); /* no string is */

#endif
