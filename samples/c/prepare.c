#include "prepare.h"

#include "fail.h"
#include "resize.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_EDGE = 16384, WHITE = 255 };

static int edge(const Json *preprocessing, const char *key)
{
    int64_t value = json_whole(preprocessing, key, 1);
    if (value > MOST_EDGE) fail("preprocessing's %s is %lld; at most %d", key, (long long) value, MOST_EDGE);
    return (int) value;
}

/* The grey level that transparent pixels are laid on. */
static unsigned background_of(const Json *preprocessing)
{
    int64_t level = json_find(preprocessing, "background") ? json_whole(preprocessing, "background", 0) : WHITE;
    if (level > WHITE) fail("preprocessing's background is %lld; at most %d", (long long) level, WHITE);
    return (unsigned) level;
}

/* A level over the background's, rounded as Pillow does. */
static unsigned laid(unsigned value, unsigned alpha, unsigned background)
{
    unsigned sum = value * alpha + background * (WHITE - alpha) + 128;
    return (sum + (sum >> 8)) >> 8;
}

/* Grey by Pillow's weights (ITU-R 601-2, in 1 / 65536), or red, green and blue. */
static Picture with_channels(Picture picture, int channels, unsigned background)
{
    Picture out = picture_new(picture.width, picture.height, channels);
    for (size_t i = 0; i < (size_t) picture.width * (size_t) picture.height; i++) {
        const uint8_t *in = picture.data + i * (size_t) picture.channels;
        unsigned rgb[3], alpha = picture.channels == 4 ? in[3] : WHITE;
        for (int k = 0; k < 3; k++) rgb[k] = laid(in[picture.channels == 1 ? 0 : k], alpha, background);
        if (channels == 1) out.data[i] = (uint8_t) ((rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000) >> 16);
        for (int k = 0; channels == 3 && k < 3; k++) out.data[3 * i + (size_t) k] = (uint8_t) rgb[k];
    }
    return out;
}

/* One number in `resize` is the shorter edge, two are (height, width), none stretches to the input's size. */
static void target_size(Picture picture, const Json *preprocessing, int *width, int *height)
{
    const Json *wanted = json_find(preprocessing, "resize");
    size_t count = wanted && wanted->kind == JSON_ARRAY ? wanted->count : 0;
    for (size_t i = 0; i < count; i++) {
        double number = wanted->items[i].number;
        if (count > 2 || !(number >= 1 && number <= MOST_EDGE)) fail("preprocessing's resize is none that is known");
    }
    *height = count == 2 ? (int) wanted->items[0].number : edge(preprocessing, "height");
    *width = count == 2 ? (int) wanted->items[1].number : edge(preprocessing, "width");
    if (count != 1) return;
    int w = picture.width, h = picture.height, tall = w <= h, shorter = (int) wanted->items[0].number;
    double longer = (double) shorter * (tall ? h : w) / (tall ? w : h);
    if (longer > MOST_EDGE) fail("a picture of %d x %d pixels is too long and thin", w, h);
    *width = tall ? shorter : (int) longer;
    *height = tall ? (int) longer : shorter;
}

static int offset(int size, int wanted)
{
    return size >= wanted ? (size - wanted) / 2 : -((wanted - size + 1) / 2);
}

/* The middle of a picture; borders that it does not reach are 0. */
static Picture middle(Picture picture, int width, int height)
{
    Picture out = picture_new(width, height, picture.channels);
    int left = offset(picture.width, width), top = offset(picture.height, height);
    size_t c = (size_t) picture.channels;
    for (int y = 0; y < height; y++) {
        if (y + top < 0 || y + top >= picture.height) continue;
        int first = left < 0 ? -left : 0, last = picture.width - left < width ? picture.width - left : width;
        memcpy(out.data + ((size_t) y * (size_t) width + (size_t) first) * c,
               picture.data + ((size_t) (y + top) * (size_t) picture.width + (size_t) (first + left)) * c,
               (size_t) (last - first) * c);
    }
    return out;
}

static float number_at(const Json *array, size_t index, const char *key)
{
    if (index >= array->count || array->items[index].kind != JSON_NUMBER) fail("preprocessing's %s is too short", key);
    return (float) array->items[index].number;
}

/* (pixel * scale - mean) / std in float, channels first. */
static Prepared normalised(Picture picture, const Json *preprocessing)
{
    size_t pixels = (size_t) picture.width * (size_t) picture.height, channels = (size_t) picture.channels;
    Prepared out = {picture.height, picture.width, picture.channels, allocate(pixels * channels, sizeof(float))};
    const Json *means = json_array(preprocessing, "mean"), *stds = json_array(preprocessing, "std");
    float scale = (float) json_number(preprocessing, "scale");
    for (size_t channel = 0; channel < channels; channel++) {
        float mean = number_at(means, channel, "mean"), std = number_at(stds, channel, "std");
        for (size_t i = 0; i < pixels; i++) {
            float scaled = (float) picture.data[i * channels + channel] * scale;
            out.data[channel * pixels + i] = (scaled - mean) / std;
        }
    }
    return out;
}

Prepared prepare(Picture picture, const Json *preprocessing)
{
    int64_t channels = json_whole(preprocessing, "channels", 1);
    if (channels != 1 && channels != 3) fail("preprocessing wants %lld channels; 1 or 3 are known", (long long) channels);
    const Json *resample = json_find(preprocessing, "resample");
    int width, height;
    Picture pixels = with_channels(picture, (int) channels, background_of(preprocessing));
    target_size(pixels, preprocessing, &width, &height);
    Picture resized = resize(pixels, width, height, resample ? json_text(preprocessing, "resample") : "bilinear");
    Picture cut = middle(resized, edge(preprocessing, "width"), edge(preprocessing, "height"));
    Prepared prepared = normalised(cut, preprocessing);
    free(pixels.data);
    free(resized.data);
    free(cut.data);
    return prepared;
}
