/* A small, strict reader of JSON (RFC 8259): enough for a manifest. */
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT } JsonKind;

typedef struct Json {
    JsonKind kind;
    double number;
    char *text;         /* of a string: UTF-8, ends with 0 */
    size_t count;       /* of an array or object */
    struct Json *items; /* its elements or values */
    char **keys;        /* of an object */
} Json;

/* Read a document; fails with the place of the first mistake. `name` is for the message. */
Json *json_parse(const char *text, size_t length, const char *name);
void json_free(Json *json);

/* The value of a key; NULL where there is none, or `object` is NULL or no object. */
const Json *json_find(const Json *object, const char *key);

/* The same; these fail where the key is missing or its value is of another kind. */
const Json *json_object(const Json *object, const char *key);
const Json *json_array(const Json *object, const char *key);
const char *json_text(const Json *object, const char *key);
double json_number(const Json *object, const char *key);
/* A whole number of at least `least` and at most 2^53. */
int64_t json_whole(const Json *object, const char *key, int64_t least);

#endif
