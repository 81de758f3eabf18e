/* A variant, loaded into ONNX Runtime. */
#ifndef MODEL_H
#define MODEL_H

#include "array.h"

typedef struct {
    OrtEnv *env;
    OrtMemoryInfo *memory;
    OrtSession *session;
} Model;

/* Load a variant with the session options that the manifest asks for, after its files were checked. */
Model model_load(const Bundle *bundle, const Json *variant);
void model_close(Model *model);

/* Run. `outputs` come with their names and get the rest; free their data. */
void model_run(const Model *model, const Array *inputs, size_t input_count, Array *outputs, size_t output_count);

#endif
