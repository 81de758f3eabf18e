/* A bundle's manifest, and files that are what the manifest says they are. */
#ifndef BUNDLE_H
#define BUNDLE_H

#include "json.h"

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const char *directory;
    Json *manifest;
} Bundle;

typedef struct {
    uint8_t *data;
    size_t length;
} Bytes;

/* A variant's model, and the files that lie beside it by their names in its folder: where its weights may be. */
typedef struct {
    Bytes model, *weights;
    const char **names;
    size_t count;
} ModelFiles;

Bundle bundle_open(const char *directory);
void bundle_close(Bundle *bundle);

/* A file that the manifest lists, with the size and the sha256 that it says; free the data. */
Bytes bundle_read(const Bundle *bundle, const char *path);

/* What a variant is made of: every file in the folder of its model, read as `bundle_read` does. */
ModelFiles bundle_model(const Bundle *bundle, const Json *variant);
void bundle_free_model(ModelFiles files);

/* The variant of this name, or the first that runs here where the name is NULL; fails with the reasons of all. */
const Json *bundle_variant(const Bundle *bundle, const char *name);

/* Any file; fails where it is missing or has more than `most` bytes. */
Bytes read_file(const char *path, size_t most);

#endif
