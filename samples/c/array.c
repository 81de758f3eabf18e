#include "array.h"

#include "fail.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    ONNXTensorElementDataType type;
    size_t size;
} types[] = {
    {"float32", ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, 4}, {"int64", ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, 8},
    {"int32", ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, 4},   {"uint8", ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, 1},
    {"int8", ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8, 1},     {"bool", ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL, 1},
};
enum { TYPES = sizeof types / sizeof *types };

size_t element_size(ONNXTensorElementDataType type)
{
    for (size_t i = 0; i < TYPES; i++) {
        if (types[i].type == type) return types[i].size;
    }
    return 0;
}

static ONNXTensorElementDataType type_of(const char *dtype, const char *name)
{
    for (size_t i = 0; i < TYPES; i++) {
        if (strcmp(types[i].name, dtype) == 0) return types[i].type;
    }
    fail("%s has dtype %s; this sample reads float32, int64, int32, uint8, int8 and bool", name, dtype);
}

Array array_read(const Bundle *bundle, const char *name, const Json *entry)
{
    Array array = {.name = name, .type = type_of(json_text(entry, "dtype"), name), .count = 1};
    const Json *shape = json_array(entry, "shape");
    const char *file = json_text(entry, "file");
    if (shape->count > MOST_DIMS) fail("%s has %zu dimensions; at most %d", name, shape->count, MOST_DIMS);
    for (size_t i = 0; i < shape->count; i++) {
        double dim = shape->items[i].number;
        if (shape->items[i].kind != JSON_NUMBER || !(dim >= 0 && dim <= 1e9)) fail("%s has a broken shape", file);
        array.shape[array.rank++] = (int64_t) dim;
    }
    Bytes bytes = bundle_read(bundle, file);
    for (size_t i = 0; i < array.rank; i++) {
        size_t dim = (size_t) array.shape[i];
        if (dim && array.count > bytes.length / dim) fail("%s is shorter than its shape", file);
        array.count *= dim;
    }
    if (array.count * element_size(array.type) != bytes.length) fail("%s is shorter or longer than its shape", file);
    array.data = bytes.data;
    return array;
}

double array_number(const Array *array, size_t index)
{
    switch (array->type) {
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT: return (double) ((const float *) array->data)[index];
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64: return (double) ((const int64_t *) array->data)[index];
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32: return ((const int32_t *) array->data)[index];
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8: return ((const int8_t *) array->data)[index];
        default: return ((const uint8_t *) array->data)[index];
    }
}
