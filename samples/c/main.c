/* predict BUNDLE PICTURE... | --golden   (see README.md) */
#include "fail.h"
#include "golden.h"
#include "model.h"
#include "picture.h"
#include "prepare.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VERDICT_NO = 3, USAGE = 2, MOST_PICTURES = 1000 };
static const size_t most_picture_bytes = (size_t) 64 << 20;

typedef struct {
    const char *bundle, *variant, *pictures[MOST_PICTURES];
    size_t picture_count;
    long top;
    bool golden, json;
} Arguments;

static _Noreturn void usage(void)
{
    fputs("usage: predict BUNDLE (PICTURE ... | --golden) [--variant NAME] [--top N] [--json]\n", stderr);
    exit(USAGE);
}

static Arguments read_arguments(int argc, char **argv)
{
    Arguments arguments = {.top = 3};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--golden") == 0) arguments.golden = true;
        else if (strcmp(argv[i], "--json") == 0) arguments.json = true;
        else if (strcmp(argv[i], "--variant") == 0 && i + 1 < argc) arguments.variant = argv[++i];
        else if (strcmp(argv[i], "--top") == 0 && i + 1 < argc) arguments.top = strtol(argv[++i], NULL, 10);
        else if (argv[i][0] == '-') usage();
        else if (arguments.bundle == NULL) arguments.bundle = argv[i];
        else if (arguments.picture_count < MOST_PICTURES) arguments.pictures[arguments.picture_count++] = argv[i];
        else usage();
    }
    if (arguments.bundle == NULL || arguments.top < 1 || arguments.golden == (arguments.picture_count > 0)) usage();
    return arguments;
}

/* The output's numbers as probabilities, by what `postprocessing` says they are; free them. */
static double *probabilities_of(const Array *output, const Json *postprocessing)
{
    const Json *kind = json_find(postprocessing, "kind");
    const char *word = kind && kind->kind == JSON_STRING ? kind->text : "none";
    double *out = allocate(output->count, sizeof *out), highest = -INFINITY, total = 0;
    for (size_t i = 0; i < output->count; i++) highest = fmax(highest, out[i] = array_number(output, i));
    if (strcmp(word, "softmax") == 0) {
        for (size_t i = 0; i < output->count; i++) total += out[i] = exp(out[i] - highest);
        for (size_t i = 0; i < output->count; i++) out[i] /= total;
    } else if (strcmp(word, "sigmoid") == 0) {
        for (size_t i = 0; i < output->count; i++) out[i] = 1 / (1 + exp(-out[i]));
    }
    return out;
}

static void print_text(const char *text)
{
    putchar('"');
    for (; *text; text++) {
        if ((unsigned char) *text < 0x20) printf("\\u%04x", *text);
        else printf(*text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
    }
    putchar('"');
}

/* The best classes, best first; `probabilities` is used up. */
static void print_top(const Json *manifest, double *probabilities, size_t count, long top, bool json)
{
    const Json *classes = json_find(manifest, "classes");
    for (long rank = 0; rank < top && rank < (long) count; rank++) {
        size_t best = 0;
        for (size_t i = 0; i < count; i++) best = probabilities[i] > probabilities[best] ? i : best;
        char number[24];
        snprintf(number, sizeof number, "%zu", best);
        bool named = classes && best < classes->count && classes->items[best].kind == JSON_STRING;
        const char *label = named ? classes->items[best].text : number;
        if (json) {
            printf("%s{\"label\": ", rank ? ", " : "");
            print_text(label);
            printf(", \"probability\": %.9g}", probabilities[best]);
        } else {
            printf("%s%s %.1f %%", rank ? ", " : "", label, 100 * probabilities[best]);
        }
        probabilities[best] = -INFINITY;
    }
}

static Array answer(const Model *model, const Json *manifest, const char *path)
{
    const Json *preprocessing = json_object(manifest, "preprocessing");
    const Json *named = json_find(json_find(manifest, "postprocessing"), "output"), *outputs = json_array(manifest, "outputs");
    if (outputs->count == 0) fail("the manifest has no outputs");
    Bytes bytes = read_file(path, most_picture_bytes);
    Picture picture = picture_decode(bytes, path);
    Prepared prepared = prepare(picture, preprocessing);
    Array input = {.name = json_text(preprocessing, "input"),
                   .type = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
                   .shape = {1, prepared.channels, prepared.height, prepared.width},
                   .rank = 4,
                   .count = (size_t) prepared.channels * (size_t) prepared.height * (size_t) prepared.width,
                   .data = prepared.data};
    Array output = {.name = named && named->kind == JSON_STRING ? named->text : json_text(&outputs->items[0], "name")};
    model_run(model, &input, 1, &output, 1);
    free(prepared.data);
    free(picture.data);
    free(bytes.data);
    return output;
}

static void predict(const Bundle *bundle, const Arguments *arguments)
{
    const Json *kind = json_find(json_find(bundle->manifest, "preprocessing"), "kind");
    if (kind == NULL || kind->kind != JSON_STRING || strcmp(kind->text, "image") != 0) fail("this bundle wants no pictures");
    Model model = model_load(bundle, bundle_variant(bundle, arguments->variant));
    for (size_t i = 0; i < arguments->picture_count; i++) {
        Array output = answer(&model, bundle->manifest, arguments->pictures[i]);
        double *probabilities = probabilities_of(&output, json_find(bundle->manifest, "postprocessing"));
        if (arguments->json) {
            printf("%s{\"picture\": ", i ? ", " : "[");
            print_text(arguments->pictures[i]);
            printf(", \"top\": [");
        } else {
            printf("%s: ", arguments->pictures[i]);
        }
        print_top(bundle->manifest, probabilities, output.count, arguments->top, arguments->json);
        printf(arguments->json ? "]}" : "\n");
        free(probabilities);
        free(output.data);
    }
    if (arguments->json) printf("]\n");
    model_close(&model);
}

int main(int argc, char **argv)
{
    Arguments arguments = read_arguments(argc, argv);
    Bundle bundle = bundle_open(arguments.bundle);
    bool ok = true;
    if (arguments.golden) ok = golden_check(&bundle, arguments.variant, arguments.json);
    else predict(&bundle, &arguments);
    bundle_close(&bundle);
    return ok ? EXIT_SUCCESS : VERDICT_NO;
}
