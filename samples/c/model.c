#include "model.h"

#include "fail.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_VALUES = 64, MOST_THREADS = 1024, API_VERSION_OF_WEIGHTS = 18 };
#define NOWHERE "/dev/null/none"

static const OrtApi *ort;

static void check(OrtStatus *status)
{
    if (status != NULL) fail("ONNX Runtime: %s", ort->GetErrorMessage(status));
}

static void open_library(void)
{
    const OrtApiBase *base = OrtGetApiBase();
    ort = base->GetApi(ORT_API_VERSION);
    if (ort == NULL) fail("ONNX Runtime %s is older than API version %d", base->GetVersionString(), ORT_API_VERSION);
}

static GraphOptimizationLevel level_of(const char *word)
{
    if (strcmp(word, "disable") == 0) return ORT_DISABLE_ALL;
    if (strcmp(word, "basic") == 0) return ORT_ENABLE_BASIC;
    if (strcmp(word, "extended") == 0) return ORT_ENABLE_EXTENDED;
    if (strcmp(word, "layout") == 0) return ORT_ENABLE_LAYOUT;
    if (strcmp(word, "all") == 0) return ORT_ENABLE_ALL;
    fail("unknown graph_optimization_level '%s'; allowed: disable, basic, extended, layout, all", word);
}

/* Session entries that change speed or memory alone: others name files, load code, or write what they see. */
static const char *const allowed[] = {
    "session.disable_prepacking", "session.dynamic_block_base", "session.force_spinning_stop",
    "session.inter_op.allow_spinning", "session.intra_op.allow_spinning", "session.set_denormal_as_zero",
    "session.use_device_allocator_for_initializers",
};

static void set_entry(OrtSessionOptions *options, const char *entry, const char *value)
{
    bool known = false;
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++) known = known || strcmp(allowed[i], entry) == 0;
    if (!known) fail("the manifest's session entry %s is none that a bundle may set", entry);
    if (value[0] == '\0' || strspn(value, "0123456789") != strlen(value)) fail("the manifest's %s must be digits", entry);
    check(ort->AddSessionConfigEntry(options, entry, value));
}

static ExecutionMode mode_of(const char *word)
{
    if (strcmp(word, "sequential") == 0) return ORT_SEQUENTIAL;
    if (strcmp(word, "parallel") == 0) return ORT_PARALLEL;
    fail("unknown execution_mode '%s'; allowed: sequential, parallel", word);
}

/* How many; 0 leaves it to ONNX Runtime. */
static int threads_of(const Json *session, const char *key)
{
    int64_t count = json_whole(session, key, 0);
    if (count > MOST_THREADS) fail("the manifest's %s must be at most %d", key, MOST_THREADS);
    return (int) count;
}

static bool is_off(const Json *session, const char *key)
{
    const Json *said = json_find(session, key);
    if (said && said->kind != JSON_TRUE && said->kind != JSON_FALSE) fail("the manifest's %s must be true or false", key);
    return said && said->kind == JSON_FALSE;
}

static void set_threads_and_memory(OrtSessionOptions *options, const Json *session)
{
    if (json_find(session, "intra_op_threads")) {
        check(ort->SetIntraOpNumThreads(options, threads_of(session, "intra_op_threads")));
    }
    if (json_find(session, "inter_op_threads")) {
        check(ort->SetInterOpNumThreads(options, threads_of(session, "inter_op_threads")));
    }
    if (json_find(session, "execution_mode")) {
        check(ort->SetSessionExecutionMode(options, mode_of(json_text(session, "execution_mode"))));
    }
    if (is_off(session, "enable_mem_pattern")) check(ort->DisableMemPattern(options));
    if (is_off(session, "enable_cpu_mem_arena")) check(ort->DisableCpuMemArena(options));
}

static OrtSessionOptions *options_of(const Json *variant)
{
    OrtSessionOptions *options;
    check(ort->CreateSessionOptions(&options));
    const Json *session = json_find(variant, "session");
    if (json_find(session, "graph_optimization_level")) {
        check(ort->SetSessionGraphOptimizationLevel(options, level_of(json_text(session, "graph_optimization_level"))));
    }
    set_threads_and_memory(options, session);
    const Json *config = json_find(session, "config") ? json_object(session, "config") : NULL;
    for (size_t i = 0; config != NULL && i < config->count; i++) {
        set_entry(options, config->keys[i], json_text(config, config->keys[i]));
    }
    const Json *format = json_find(variant, "format");
    if (format && format->kind == JSON_STRING && strcmp(format->text, "ort") == 0) {
        check(ort->AddSessionConfigEntry(options, "session.load_model_format", "ORT"));
    }
    return options;
}

/* Weights that are not in the model's file come from memory, and from nowhere else: ONNX Runtime would look for them in the
 * working directory, and what lies there has no hash in the manifest. */
static void add_weights(OrtSessionOptions *options, const ModelFiles *files)
{
    check(ort->AddSessionConfigEntry(options, "session.model_external_initializers_file_folder_path", NOWHERE));
    if (files->count == 0) return;
    const OrtApi *newer = OrtGetApiBase()->GetApi(API_VERSION_OF_WEIGHTS);
    if (newer == NULL) fail("weights beside the model need ONNX Runtime 1.%d or newer", API_VERSION_OF_WEIGHTS);
    char **data = allocate(files->count, sizeof *data);
    size_t *sizes = allocate(files->count, sizeof *sizes);
    for (size_t i = 0; i < files->count; i++) {
        data[i] = (char *) files->weights[i].data;
        sizes[i] = files->weights[i].length;
    }
    check(newer->AddExternalInitializersFromFilesInMemory(options, files->names, data, sizes, files->count));
    free(data);
    free(sizes);
}

Model model_load(const Bundle *bundle, const Json *variant)
{
    Model model;
    open_library();
    ModelFiles files = bundle_model(bundle, variant);
    OrtSessionOptions *options = options_of(variant);
    add_weights(options, &files);
    check(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "edgekit", &model.env));
    check(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &model.memory));
    check(ort->CreateSessionFromArray(model.env, files.model.data, files.model.length, options, &model.session));
    ort->ReleaseSessionOptions(options);
    bundle_free_model(files);
    return model;
}

void model_close(Model *model)
{
    ort->ReleaseSession(model->session);
    ort->ReleaseMemoryInfo(model->memory);
    ort->ReleaseEnv(model->env);
}

static void take(OrtValue *value, Array *array)
{
    OrtTensorTypeAndShapeInfo *info;
    void *data;
    check(ort->GetTensorTypeAndShape(value, &info));
    check(ort->GetTensorElementType(info, &array->type));
    check(ort->GetTensorShapeElementCount(info, &array->count));
    check(ort->GetTensorMutableData(value, &data));
    size_t size = element_size(array->type);
    if (size == 0) fail("%s is of a type that this sample does not read", array->name);
    array->data = allocate(array->count, size);
    memcpy(array->data, data, array->count * size);
    ort->ReleaseTensorTypeAndShapeInfo(info);
    ort->ReleaseValue(value);
}

void model_run(const Model *model, const Array *inputs, size_t input_count, Array *outputs, size_t output_count)
{
    const char *input_names[MOST_VALUES], *output_names[MOST_VALUES];
    OrtValue *in[MOST_VALUES], *out[MOST_VALUES] = {NULL};
    if (input_count > MOST_VALUES || output_count > MOST_VALUES) fail("more than %d inputs or outputs", MOST_VALUES);
    for (size_t i = 0; i < input_count; i++) {
        const Array *input = &inputs[i];
        input_names[i] = input->name;
        check(ort->CreateTensorWithDataAsOrtValue(model->memory, input->data, input->count * element_size(input->type),
                                                  input->shape, input->rank, input->type, &in[i]));
    }
    for (size_t i = 0; i < output_count; i++) output_names[i] = outputs[i].name;
    check(ort->Run(model->session, NULL, input_names, (const OrtValue *const *) in, input_count, output_names,
                   output_count, out));
    for (size_t i = 0; i < output_count; i++) take(out[i], &outputs[i]);
    for (size_t i = 0; i < input_count; i++) ort->ReleaseValue(in[i]);
}
