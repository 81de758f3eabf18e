#include "bundle.h"

#include "fail.h"
#include "machine.h"
#include "sha256.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SCHEMA_VERSION = 1 };
static const size_t most_manifest_bytes = (size_t) 64 << 20, most_file_bytes = (size_t) 1 << 31;

static char *join(const char *directory, const char *path)
{
    size_t room = strlen(directory) + strlen(path) + 2;
    char *joined = allocate(room, 1);
    snprintf(joined, room, "%s/%s", directory, path);
    return joined;
}

Bytes read_file(const char *path, size_t most)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) fail("%s cannot be opened", path);
    Bytes bytes = {allocate(4096, 1), 0};
    size_t room = 4096, got;
    while ((got = fread(bytes.data + bytes.length, 1, room - bytes.length, file)) > 0) {
        bytes.length += got;
        if (bytes.length > most) fail("%s has more than %zu bytes", path, most);
        if (bytes.length < room) continue;
        bytes.data = realloc(bytes.data, room *= 2);
        if (bytes.data == NULL) fail("no memory for %s", path);
    }
    if (ferror(file)) fail("%s cannot be read", path);
    fclose(file);
    return bytes;
}

/* Only of a file can a byte be read. */
static void refuse_file(const char *directory)
{
    FILE *file = fopen(directory, "rb");
    bool is_file = file != NULL && fgetc(file) != EOF;
    if (file != NULL) fclose(file);
    if (is_file) fail("%s is a file, and this sample reads a directory: unzip it first", directory);
}

Bundle bundle_open(const char *directory)
{
    Bundle bundle = {directory, NULL};
    refuse_file(directory);
    char *path = join(directory, "manifest.json");
    Bytes bytes = read_file(path, most_manifest_bytes);
    bundle.manifest = json_parse((const char *) bytes.data, bytes.length, path);
    free(bytes.data);
    free(path);
    int64_t version = json_whole(bundle.manifest, "schema_version", 0);
    if (version != SCHEMA_VERSION) {
        fail("manifest.json has schema_version %lld; this sample reads %d: take the sample of the edgekit that packed it",
             (long long) version, SCHEMA_VERSION);
    }
    json_object(bundle.manifest, "files");
    json_object(bundle.manifest, "golden");
    json_array(bundle.manifest, "variants");
    return bundle;
}

void bundle_close(Bundle *bundle)
{
    json_free(bundle->manifest);
    bundle->manifest = NULL;
}

/* A manifest is a foreign file: it may not lead out of its bundle. */
static void refuse_outside(const char *path)
{
    bool up = strncmp(path, "../", 3) == 0 || strstr(path, "/../") != NULL;
    if (path[0] == '/' || up || strchr(path, '\\')) fail("manifest.json names %s, which is outside of the bundle", path);
}

Bytes bundle_read(const Bundle *bundle, const char *path)
{
    char digest[65];
    refuse_outside(path);
    const Json *said = json_find(json_object(bundle->manifest, "files"), path);
    if (said == NULL) fail("manifest.json does not list %s", path);
    char *place = join(bundle->directory, path);
    Bytes bytes = read_file(place, most_file_bytes);
    free(place);
    size_t wanted = (size_t) json_whole(said, "bytes", 0);
    if (bytes.length != wanted) fail("%s has %zu bytes; manifest.json says %zu", path, bytes.length, wanted);
    sha256_hex(bytes.data, bytes.length, digest);
    if (strcmp(digest, json_text(said, "sha256")) != 0) {
        fail("%s is not the file that was packed: its sha256 differs from the manifest's", path);
    }
    return bytes;
}

static bool is_model(const char *path)
{
    const char *end = strrchr(path, '.');
    return end && (strcmp(end, ".onnx") == 0 || strcmp(end, ".ort") == 0 || strcmp(end, ".enc") == 0);
}

ModelFiles bundle_model(const Bundle *bundle, const Json *variant)
{
    const Json *listed = json_object(bundle->manifest, "files");
    const char *model = json_text(variant, "file"), *slash = strrchr(model, '/');
    size_t folder = slash ? (size_t) (slash - model) + 1 : 0;
    ModelFiles files = {.model = bundle_read(bundle, model),
                        .weights = allocate(listed->count, sizeof(Bytes)),
                        .names = allocate(listed->count, sizeof(char *))};
    for (size_t i = 0; i < listed->count; i++) {
        const char *path = listed->keys[i];
        if (strncmp(path, model, folder) != 0 || is_model(path)) continue;
        files.names[files.count] = path + folder;
        files.weights[files.count++] = bundle_read(bundle, path);
    }
    return files;
}

void bundle_free_model(ModelFiles files)
{
    for (size_t i = 0; i < files.count; i++) free(files.weights[i].data);
    free(files.weights);
    free(files.names);
    free(files.model.data);
}

const Json *bundle_variant(const Bundle *bundle, const char *name)
{
    const Json *variants = json_array(bundle->manifest, "variants");
    char reasons[2048] = "";
    for (size_t i = 0; i < variants->count; i++) {
        const Json *variant = &variants->items[i];
        const char *own = json_text(variant, "name");
        if (name != NULL && strcmp(own, name) != 0) continue;
        const char *reason = why_not(variant);
        if (reason == NULL) return variant;
        size_t used = strlen(reasons);
        snprintf(reasons + used, sizeof reasons - used, "%s%s: %s", used ? "; " : "", own, reason);
    }
    if (reasons[0] == '\0') fail("the bundle has no variant%s%s", name ? " " : "", name ? name : "");
    fail("the bundle does not run here: %s", reasons);
}
