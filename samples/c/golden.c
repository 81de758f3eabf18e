#include "golden.h"

#include "fail.h"
#include "machine.h"
#include "model.h"
#include "picture.h"
#include "prepare.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    bool ok;
    double error;
    const char *name, *why;
} Row;

typedef struct {
    Array *items;
    size_t count;
} Arrays;

static Arrays read_arrays(const Bundle *bundle, const Json *entries)
{
    Arrays arrays = {allocate(entries->count, sizeof(Array)), entries->count};
    for (size_t i = 0; i < arrays.count; i++) arrays.items[i] = array_read(bundle, entries->keys[i], &entries->items[i]);
    return arrays;
}

static void free_arrays(Arrays arrays)
{
    for (size_t i = 0; i < arrays.count; i++) free(arrays.items[i].data);
    free(arrays.items);
}

static size_t best(const Array *array, size_t start, size_t width)
{
    size_t found = start;
    for (size_t i = start; i < start + width; i++) {
        if (array_number(array, i) > array_number(array, found)) found = i;
    }
    return found;
}

static bool same_best(const Array *got, const Array *wanted)
{
    size_t width = wanted->rank ? (size_t) wanted->shape[wanted->rank - 1] : 1;
    for (size_t start = 0; width && start < wanted->count; start += width) {
        if (best(got, start, width) != best(wanted, start, width)) return false;
    }
    return true;
}

/* |got - wanted| <= absolute + relative * |wanted| everywhere, and the same best class where the bundle asks for it. */
static Row compare(const Array *got, const Array *wanted, const Json *tolerance)
{
    double absolute = json_number(tolerance, "absolute"), relative = json_number(tolerance, "relative");
    const Json *top = json_find(tolerance, "same_top1");
    if (!(absolute >= 0 && relative >= 0 && relative < 1)) fail("the manifest's tolerance allows any answer, or none");
    Row row = {true, 0, wanted->name, ""};
    if (got->count != wanted->count) return (Row){false, INFINITY, wanted->name, ", and has another size"};
    for (size_t i = 0; i < wanted->count; i++) {
        double a = array_number(got, i), b = array_number(wanted, i);
        double error = a == b || (isnan(a) && isnan(b)) ? 0 : fabs(a - b);
        if (!(error <= absolute + relative * fabs(b)) && error != 0) row.ok = false;
        if (!(error <= row.error)) row.error = isnan(error) ? INFINITY : error;
    }
    if (top && top->kind == JSON_TRUE && !same_best(got, wanted)) {
        row.ok = false;
        row.why = ", and its best class is another";
    }
    return row;
}

static void print_numbers(const Arrays *outputs)
{
    for (size_t i = 0; i < outputs->count; i++) {
        printf("%s\"%s\": [", i ? ", " : "", outputs->items[i].name);
        for (size_t k = 0; k < outputs->items[i].count; k++) {
            printf("%s%.9g", k ? ", " : "", array_number(&outputs->items[i], k));
        }
        printf("]");
    }
}

static bool run_one(const Model *model, const Arrays *inputs, const Arrays *wanted, const Json *tolerance,
                    const char *name, bool json)
{
    if (wanted->count == 0) fail("the manifest has no golden output for %s", name);
    Arrays got = {allocate(wanted->count, sizeof(Array)), wanted->count};
    for (size_t i = 0; i < got.count; i++) got.items[i].name = wanted->items[i].name;
    model_run(model, inputs->items, inputs->count, got.items, got.count);
    Row worst = {true, -1, "", ""};
    for (size_t i = 0; i < got.count; i++) {
        Row row = compare(&got.items[i], &wanted->items[i], tolerance);
        if (worst.ok ? !row.ok || row.error > worst.error : !row.ok && row.error > worst.error) worst = row;
    }
    if (json) {
        printf("{\"name\": \"%s\", \"ok\": %s, \"outputs\": {", name, worst.ok ? "true" : "false");
        print_numbers(&got);
        printf("}}");
    } else {
        printf("%s %s: %s is off by %.1e%s\n", worst.ok ? "ok  " : "FAIL", name, worst.name, worst.error, worst.why);
    }
    free_arrays(got);
    return worst.ok;
}

/* Put what preprocessing makes of the raw picture in the place of the stored input. */
static void from_picture(const Bundle *bundle, const char *raw, Arrays *inputs)
{
    const Json *preprocessing = json_object(bundle->manifest, "preprocessing");
    Bytes bytes = bundle_read(bundle, raw);
    Picture picture = picture_decode(bytes, raw);
    Prepared prepared = prepare(picture, preprocessing);
    size_t count = (size_t) prepared.channels * (size_t) prepared.height * (size_t) prepared.width;
    const char *name = json_text(preprocessing, "input");
    for (size_t i = 0; i < inputs->count; i++) {
        Array *input = &inputs->items[i];
        if (strcmp(input->name, name) != 0) continue;
        if (input->count != count || input->type != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) {
            fail("%s gives %zu numbers; input %s is something else", raw, count, name);
        }
        memcpy(input->data, prepared.data, count * sizeof(float));
    }
    free(prepared.data);
    free(picture.data);
    free(bytes.data);
}

/* The sample's raw picture, where this build can read it; else NULL. */
static const char *raw_picture(const Bundle *bundle, const Json *sample)
{
    const Json *kind = json_find(json_find(bundle->manifest, "preprocessing"), "kind"), *raw = json_find(sample, "raw");
    if (kind == NULL || kind->kind != JSON_STRING || strcmp(kind->text, "image") != 0) return NULL;
    return raw && raw->kind == JSON_STRING && picture_reads_png() ? raw->text : NULL;
}

static bool check_variant(const Bundle *bundle, const Json *variant, bool json, size_t *printed)
{
    const Json *golden = json_object(bundle->manifest, "golden"), *samples = json_array(golden, "samples");
    const char *name = json_text(variant, "name");
    const Json *outputs = json_array(json_object(golden, "outputs"), name);
    const Json *tolerance = json_object(json_object(golden, "tolerance"), name);
    Model model = model_load(bundle, variant);
    bool ok = true;
    char line[128];
    if (samples->count == 0) fail("the manifest has no golden samples");
    if (outputs->count != samples->count) fail("golden has %zu outputs for %zu samples", outputs->count, samples->count);
    for (size_t i = 0; i < samples->count; i++) {
        const Json *sample = &samples->items[i];
        Arrays inputs = read_arrays(bundle, json_object(sample, "inputs"));
        Arrays wanted = read_arrays(bundle, &outputs->items[i]);
        const char *raw = raw_picture(bundle, sample);
        for (int start = 0; start < (raw ? 2 : 1); start++) {
            if (start == 1) from_picture(bundle, raw, &inputs);
            snprintf(line, sizeof line, "%s %s %zu", name, start ? "picture" : "input", i);
            if (json && (*printed)++) printf(", ");
            ok = run_one(&model, &inputs, &wanted, tolerance, line, json) && ok;
        }
        free_arrays(inputs);
        free_arrays(wanted);
    }
    model_close(&model);
    return ok;
}

bool golden_check(const Bundle *bundle, const char *variant, bool json)
{
    const Json *variants = json_array(bundle->manifest, "variants");
    const Json *only = bundle_variant(bundle, variant); /* fails where there is none */
    bool ok = true;
    size_t printed = 0;
    if (json) printf("[");
    for (size_t i = 0; i < variants->count; i++) {
        const Json *each = &variants->items[i];
        const char *reason = why_not(each);
        if (variant != NULL && each != only) continue;
        if (reason) fprintf(stderr, "left out %s: %s\n", json_text(each, "name"), reason);
        else ok = check_variant(bundle, each, json, &printed) && ok;
    }
    if (json) printf("]\n");
    if (!json && !picture_reads_png()) printf("     (built without libpng: raw pictures were left out)\n");
    return ok;
}
