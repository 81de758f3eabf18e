#include "picture.h"

#include "fail.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#ifdef WITH_PNG
#include <png.h>
#endif

enum { MOST_PIXELS = 64000000 }; /* a small file can claim a huge picture */

Picture picture_new(int width, int height, int channels)
{
    return (Picture){width, height, channels, allocate((size_t) width * (size_t) height, (size_t) channels)};
}

static void refuse_size(long width, long height, const char *name)
{
    if (width < 1 || height < 1 || width > MOST_PIXELS || height > MOST_PIXELS / width) {
        fail("%s is %ld x %ld pixels; at most %d pixels are read", name, width, height, MOST_PIXELS);
    }
}

/* The next number of a PNM header; spaces and comments stand before it. */
static long pnm_number(Bytes bytes, size_t *at, const char *name)
{
    while (*at < bytes.length && (isspace(bytes.data[*at]) || bytes.data[*at] == '#')) {
        if (bytes.data[*at] == '#') {
            while (*at < bytes.length && bytes.data[*at] != '\n') ++*at;
        } else {
            ++*at;
        }
    }
    long value = 0;
    size_t start = *at;
    while (*at < bytes.length && isdigit(bytes.data[*at]) && value < MOST_PIXELS) {
        value = 10 * value + (bytes.data[(*at)++] - '0');
    }
    if (*at == start) fail("%s is no PGM or PPM: its header is broken", name);
    return value;
}

static Picture decode_pnm(Bytes bytes, const char *name)
{
    size_t at = 2;
    int channels = bytes.data[1] == '5' ? 1 : 3;
    long width = pnm_number(bytes, &at, name), height = pnm_number(bytes, &at, name);
    long highest = pnm_number(bytes, &at, name);
    refuse_size(width, height, name);
    if (highest != 255) fail("%s has values up to %ld; save it with 255", name, highest);
    Picture picture = picture_new((int) width, (int) height, channels);
    size_t wanted = (size_t) width * (size_t) height * (size_t) channels;
    if (bytes.length < ++at || bytes.length - at < wanted) fail("%s is cut off", name);
    memcpy(picture.data, bytes.data + at, wanted);
    return picture;
}

#ifdef WITH_PNG
static size_t big_endian(const uint8_t *at)
{
    return (size_t) at[0] << 24 | (size_t) at[1] << 16 | (size_t) at[2] << 8 | at[3];
}

/* Of an animation nobody knows which frame is meant; the chunk acTL with their number stands before the pixels. */
static void refuse_several(Bytes bytes, const char *name)
{
    for (size_t at = 8, length; at + 12 <= bytes.length; at += 12 + length) {
        length = big_endian(bytes.data + at);
        if (memcmp(bytes.data + at + 4, "IDAT", 4) == 0 || length > bytes.length - at - 12) return;
        if (memcmp(bytes.data + at + 4, "acTL", 4) == 0 && length >= 4 && big_endian(bytes.data + at + 8) > 1) {
            fail("%s holds several pictures (frames or pages), and the model takes one; save that as a file of its own", name);
        }
    }
}

static Picture decode_png(Bytes bytes, const char *name)
{
    png_image image = {.version = PNG_IMAGE_VERSION};
    if (!png_image_begin_read_from_memory(&image, bytes.data, bytes.length)) fail("%s: %s", name, image.message);
    refuse_size((long) image.width, (long) image.height, name);
    refuse_several(bytes, name);
    if (image.format & PNG_FORMAT_FLAG_LINEAR) fail("%s has 16 bits a channel; save it with 8", name);
    image.format = PNG_FORMAT_RGBA; /* with its alpha, so that nothing is blended */
    Picture picture = picture_new((int) image.width, (int) image.height, 4);
    if (!png_image_finish_read(&image, NULL, picture.data, 0, NULL)) fail("%s: %s", name, image.message);
    return picture;
}
#else
static Picture decode_png(Bytes bytes, const char *name)
{
    (void) bytes;
    fail("%s: this build reads PGM and PPM; install libpng (libpng-dev) and build again for PNG", name);
}
#endif

bool picture_reads_png(void)
{
#ifdef WITH_PNG
    return true;
#else
    return false;
#endif
}

Picture picture_decode(Bytes bytes, const char *name)
{
    if (bytes.length > 3 && bytes.data[0] == 'P' && (bytes.data[1] == '5' || bytes.data[1] == '6')) {
        return decode_pnm(bytes, name);
    }
    if (bytes.length > 8 && memcmp(bytes.data, "\x89PNG\r\n\x1a\n", 8) == 0) return decode_png(bytes, name);
    fail("%s is no picture that this sample reads: PNG, PGM (P5) or PPM (P6)", name);
}
