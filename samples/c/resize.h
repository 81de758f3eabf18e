/* Pillow's resize of 8-bit pictures, to the bit. */
#ifndef RESIZE_H
#define RESIZE_H

#include "picture.h"

/* Resize; `resample` is nearest, box, bilinear, hamming, bicubic or lanczos. Free the data. */
Picture resize(Picture picture, int width, int height, const char *resample);

#endif
