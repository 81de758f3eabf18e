/* Pictures of 8 bits a channel, from PGM, PPM or (built with libpng) PNG. */
#ifndef PICTURE_H
#define PICTURE_H

#include "bundle.h"

#include <stdint.h>

typedef struct {
    int width, height, channels; /* 1: grey, 3: red, green, blue, 4: and alpha */
    uint8_t *data;               /* rows of pixels of channels */
} Picture;

Picture picture_new(int width, int height, int channels);

/* Decode a file's bytes; free the data. */
Picture picture_decode(Bytes bytes, const char *name);

/* Whether this build reads PNG. */
bool picture_reads_png(void);

#endif
