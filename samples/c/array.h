/* Arrays as they stand in a bundle: raw little-endian bytes, whose dtype and shape the manifest says. */
#ifndef ARRAY_H
#define ARRAY_H

#include "bundle.h"

#include <onnxruntime_c_api.h>

enum { MOST_DIMS = 16 };

typedef struct {
    const char *name; /* of the model's input or output; lives as long as the manifest */
    ONNXTensorElementDataType type;
    int64_t shape[MOST_DIMS];
    size_t rank, count;
    void *data;
} Array;

/* Bytes of an element; 0 for a type that this sample does not read. */
size_t element_size(ONNXTensorElementDataType type);

/* Read the array that an entry of `golden` names; free the data. */
Array array_read(const Bundle *bundle, const char *name, const Json *entry);

/* An element as a number. */
double array_number(const Array *array, size_t index);

#endif
