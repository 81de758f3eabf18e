/* From a picture to the model's input, as `preprocessing` of the manifest says: the same numbers as in Python. */
#ifndef PREPARE_H
#define PREPARE_H

#include "json.h"
#include "picture.h"

typedef struct {
    int height, width, channels;
    float *data; /* (1, channels, height, width) */
} Prepared;

/* Prepare a picture; free the data. */
Prepared prepare(Picture picture, const Json *preprocessing);

#endif
