#include "json.h"

#include "fail.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_DEPTH = 64 };

typedef struct {
    const char *start, *at, *end, *name;
    int depth;
} Reader;

static Json read_value(Reader *reader);

static _Noreturn void mistake(const Reader *reader, const char *what)
{
    fail("%s is no JSON that can be used: %s, at byte %td", reader->name, what, reader->at - reader->start);
}

static void skip_space(Reader *reader)
{
    while (reader->at < reader->end && strchr(" \t\r\n", *reader->at) && *reader->at) reader->at++;
}

static char peek(const Reader *reader)
{
    return reader->at < reader->end ? *reader->at : '\0';
}

static void expect(Reader *reader, char wanted)
{
    if (peek(reader) != wanted) mistake(reader, "something is missing or too much");
    reader->at++;
}

static Json read_word(Reader *reader, const char *word, JsonKind kind)
{
    size_t length = strlen(word);
    if ((size_t) (reader->end - reader->at) < length || memcmp(reader->at, word, length) != 0) {
        mistake(reader, "an unknown word");
    }
    reader->at += length;
    return (Json){.kind = kind};
}

static void skip_digits(Reader *reader)
{
    if (!isdigit((unsigned char) peek(reader))) mistake(reader, "a digit is missing");
    while (isdigit((unsigned char) peek(reader))) reader->at++;
}

static Json read_number(Reader *reader)
{
    char text[64];
    const char *start = reader->at;
    if (peek(reader) == '-') reader->at++;
    if (peek(reader) == '0') reader->at++;
    else skip_digits(reader);
    if (peek(reader) == '.') {
        reader->at++;
        skip_digits(reader);
    }
    if (peek(reader) == 'e' || peek(reader) == 'E') {
        reader->at++;
        if (peek(reader) == '+' || peek(reader) == '-') reader->at++;
        skip_digits(reader);
    }
    size_t length = (size_t) (reader->at - start);
    if (length >= sizeof text) mistake(reader, "a number is too long");
    memcpy(text, start, length);
    text[length] = '\0';
    return (Json){.kind = JSON_NUMBER, .number = strtod(text, NULL)};
}

static unsigned read_hex(Reader *reader)
{
    unsigned value = 0;
    for (int i = 0; i < 4; i++) {
        char digit = peek(reader);
        if (!isxdigit((unsigned char) digit)) mistake(reader, "\\u needs four hex digits");
        value = value * 16 + (unsigned) (isdigit((unsigned char) digit) ? digit - '0' : tolower(digit) - 'a' + 10);
        reader->at++;
    }
    return value;
}

static unsigned read_code_point(Reader *reader)
{
    unsigned high = read_hex(reader);
    if (high < 0xD800 || high > 0xDFFF) return high;
    if (high > 0xDBFF || peek(reader) != '\\') mistake(reader, "half of a surrogate pair");
    reader->at++;
    expect(reader, 'u');
    unsigned low = read_hex(reader);
    if (low < 0xDC00 || low > 0xDFFF) mistake(reader, "half of a surrogate pair");
    return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
}

static char *put_utf8(char *out, unsigned code)
{
    if (code < 0x80) {
        *out++ = (char) code;
        return out;
    }
    int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const unsigned lead[] = {0, 0xC0, 0xE0, 0xF0};
    *out++ = (char) (lead[more] | code >> (6 * more));
    while (more-- > 0) *out++ = (char) (0x80 | ((code >> (6 * more)) & 0x3F));
    return out;
}

static char *read_escape(Reader *reader, char *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char letter = peek(reader);
    reader->at++;
    if (letter == 'u') {
        unsigned code = read_code_point(reader);
        if (code == 0) mistake(reader, "a text holds a zero");
        return put_utf8(out, code);
    }
    const char *found = letter ? strchr(from, letter) : NULL;
    if (found == NULL) mistake(reader, "an unknown escape");
    *out++ = to[found - from];
    return out;
}

/* Whether a text moves a terminal's cursor, or turns the direction of writing. */
static bool is_unseen(const char *text)
{
    for (const unsigned char *c = (const unsigned char *) text; *c; c++) {
        if ((*c < 0x20 && *c != '\t' && *c != '\n') || *c == 0x7F) return true;
        if (c[0] == 0xC2 && c[1] >= 0x80 && c[1] <= 0x9F) return true; /* U+0080 to U+009F */
        if (c[0] == 0xE2 && c[1] == 0x80 && c[2] >= 0xAA && c[2] <= 0xAE) return true; /* U+202A to U+202E */
        if (c[0] == 0xE2 && c[1] == 0x81 && c[2] >= 0xA6 && c[2] <= 0xA9) return true; /* U+2066 to U+2069 */
    }
    return false;
}

static char *read_text(Reader *reader)
{
    expect(reader, '"');
    const char *close = reader->at; /* no text is longer than what stands between its quotes */
    while (close < reader->end && *close != '"') close += *close == '\\' ? 2 : 1;
    if (close >= reader->end) mistake(reader, "a text does not end");
    char *text = allocate((size_t) (close - reader->at) + 1, 1), *out = text;
    while (peek(reader) != '"') {
        if ((unsigned char) *reader->at < 0x20) mistake(reader, "a control character in a text");
        if (*reader->at != '\\') {
            *out++ = *reader->at++;
            continue;
        }
        reader->at++;
        out = read_escape(reader, out);
    }
    reader->at++;
    if (is_unseen(text)) mistake(reader, "a text holds a control character");
    return text;
}

static bool has_key(const Json *object, const char *key)
{
    for (size_t i = 0; i < object->count; i++) {
        if (strcmp(object->keys[i], key) == 0) return true;
    }
    return false;
}

static void grow(Json *json, char *key, Json value)
{
    if ((json->count & (json->count - 1)) == 0) { /* 0, 1, 2, 4, ...: twice the room */
        size_t room = json->count ? 2 * json->count : 1;
        json->items = realloc(json->items, room * sizeof *json->items);
        json->keys = realloc(json->keys, room * sizeof *json->keys);
        if (json->items == NULL || json->keys == NULL) fail("no memory for %zu values", room);
    }
    json->keys[json->count] = key;
    json->items[json->count++] = value;
}

/* An array or an object: `open` was seen. */
static Json read_many(Reader *reader, JsonKind kind, char close)
{
    Json json = {.kind = kind};
    if (++reader->depth > MOST_DEPTH) mistake(reader, "too deep");
    reader->at++;
    skip_space(reader);
    while (peek(reader) != close) {
        char *key = NULL;
        if (json.count) expect(reader, ',');
        skip_space(reader);
        if (kind == JSON_OBJECT) {
            key = read_text(reader);
            if (has_key(&json, key)) mistake(reader, "a key stands twice");
            if (strchr(key, '\n')) mistake(reader, "a key has two lines");
            skip_space(reader);
            expect(reader, ':');
        }
        grow(&json, key, read_value(reader));
    }
    reader->at++;
    reader->depth--;
    return json;
}

static Json read_value(Reader *reader)
{
    Json json;
    skip_space(reader);
    switch (peek(reader)) {
        case '{': json = read_many(reader, JSON_OBJECT, '}'); break;
        case '[': json = read_many(reader, JSON_ARRAY, ']'); break;
        case '"': json = (Json){.kind = JSON_STRING, .text = read_text(reader)}; break;
        case 't': json = read_word(reader, "true", JSON_TRUE); break;
        case 'f': json = read_word(reader, "false", JSON_FALSE); break;
        case 'n': json = read_word(reader, "null", JSON_NULL); break;
        default: json = read_number(reader);
    }
    skip_space(reader);
    return json;
}

Json *json_parse(const char *text, size_t length, const char *name)
{
    Reader reader = {text, text, text + length, name, 0};
    Json *json = allocate(1, sizeof *json);
    *json = read_value(&reader);
    if (reader.at != reader.end) mistake(&reader, "more than one value");
    return json;
}

static void free_content(Json *json)
{
    for (size_t i = 0; i < json->count; i++) {
        free(json->keys[i]);
        free_content(&json->items[i]);
    }
    free(json->keys);
    free(json->items);
    free(json->text);
}

void json_free(Json *json)
{
    if (json == NULL) return;
    free_content(json);
    free(json);
}

const Json *json_find(const Json *object, const char *key)
{
    if (object == NULL || object->kind != JSON_OBJECT) return NULL;
    for (size_t i = 0; i < object->count; i++) {
        if (strcmp(object->keys[i], key) == 0) return &object->items[i];
    }
    return NULL;
}

static const Json *of_kind(const Json *object, const char *key, JsonKind kind, const char *word)
{
    const Json *found = json_find(object, key);
    if (found == NULL || found->kind != kind) fail("the manifest has no '%s', or it is no %s", key, word);
    return found;
}

const Json *json_object(const Json *object, const char *key)
{
    return of_kind(object, key, JSON_OBJECT, "object");
}

const Json *json_array(const Json *object, const char *key)
{
    return of_kind(object, key, JSON_ARRAY, "array");
}

const char *json_text(const Json *object, const char *key)
{
    const char *text = of_kind(object, key, JSON_STRING, "text")->text;
    if (strchr(text, '\n')) fail("the manifest's '%s' must be one line", key);
    return text;
}

double json_number(const Json *object, const char *key)
{
    return of_kind(object, key, JSON_NUMBER, "number")->number;
}

int64_t json_whole(const Json *object, const char *key, int64_t least)
{
    double number = json_number(object, key);
    if (!(number >= (double) least && number <= 9007199254740992.0) || number != floor(number)) {
        fail("the manifest's '%s' is %g; a whole number of at least %lld is wanted", key, number, (long long) least);
    }
    return (int64_t) number;
}
