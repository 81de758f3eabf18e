#include "bundle.h"

#include "fail.h"
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

Bundle bundle_open(const char *directory)
{
    Bundle bundle = {directory, NULL};
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

char *bundle_path(const Bundle *bundle, const char *path)
{
    refuse_outside(path);
    return join(bundle->directory, path);
}

Bytes bundle_read(const Bundle *bundle, const char *path)
{
    char digest[65], *place = bundle_path(bundle, path);
    const Json *said = json_find(json_object(bundle->manifest, "files"), path);
    if (said == NULL) fail("manifest.json does not list %s", path);
    Bytes bytes = read_file(place, most_file_bytes);
    size_t wanted = (size_t) json_whole(said, "bytes", 0);
    if (bytes.length != wanted) fail("%s has %zu bytes; manifest.json says %zu", path, bytes.length, wanted);
    sha256_hex(bytes.data, bytes.length, digest);
    if (strcmp(digest, json_text(said, "sha256")) != 0) {
        fail("%s is not the file that was packed: its sha256 differs from the manifest's", path);
    }
    free(place);
    return bytes;
}

void bundle_check_model(const Bundle *bundle, const Json *variant)
{
    const Json *files = json_object(bundle->manifest, "files");
    const char *model = json_text(variant, "file"), *slash = strrchr(model, '/');
    size_t folder = slash ? (size_t) (slash - model) + 1 : 0;
    if (json_find(files, model) == NULL) fail("manifest.json does not list %s", model);
    for (size_t i = 0; i < files->count; i++) {
        if (strncmp(files->keys[i], model, folder) == 0) free(bundle_read(bundle, files->keys[i]).data);
    }
}

bool bundle_runs_here(const Json *variant)
{
    const Json *encrypted = json_find(variant, "encrypted"), *providers = json_array(variant, "providers");
    if (encrypted != NULL && encrypted->kind != JSON_NULL) return false;
    for (size_t i = 0; i < providers->count; i++) {
        const Json *provider = &providers->items[i];
        if (provider->kind == JSON_STRING && strcmp(provider->text, "CPUExecutionProvider") == 0) return true;
    }
    return false;
}

const Json *bundle_variant(const Bundle *bundle, const char *name)
{
    const Json *variants = json_array(bundle->manifest, "variants");
    for (size_t i = 0; i < variants->count; i++) {
        const Json *variant = &variants->items[i];
        if (bundle_runs_here(variant) && (name == NULL || strcmp(json_text(variant, "name"), name) == 0)) return variant;
    }
    if (name) fail("the bundle has no variant '%s' for the CPU that is not encrypted", name);
    fail("the bundle has no variant for the CPU that is not encrypted");
}
