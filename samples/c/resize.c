/* Two passes of fixed-point weights, as Pillow has them (src/libImaging/Resample.c and Geometry.c): what a model was
 * trained and measured on was resized so. */
#include "resize.h"

#include "fail.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PRECISION_BITS = 22 };
static const double pi = 3.14159265358979323846;

typedef struct {
    const char *name;
    double support;
    double (*weight)(double);
} Filter;

static double sinc(double x)
{
    return x == 0 ? 1 : sin(x * pi) / (x * pi);
}

static double box(double x)
{
    return x > -0.5 && x <= 0.5 ? 1 : 0;
}

static double bilinear(double x)
{
    return fmax(0, 1 - fabs(x));
}

static double hamming(double x)
{
    x = fabs(x) * pi;
    if (x == 0) return 1;
    return x >= pi ? 0 : sin(x) / x * (0.54 + 0.46 * cos(x));
}

static double bicubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

static double lanczos(double x)
{
    return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0;
}

static const Filter filters[] = {
    {"box", 0.5, box}, {"bilinear", 1, bilinear}, {"hamming", 1, hamming}, {"bicubic", 2, bicubic}, {"lanczos", 3, lanczos},
};

/* For one new pixel: the first old one that it is made of, how many, and what each counts in 1 / 2^22. */
typedef struct {
    int start, count;
    int32_t *weights;
} Taps;

static Taps taps_of(int size, int wanted, int pixel, const Filter *filter)
{
    double scale = (double) size / wanted, stretch = fmax(1, scale), support = filter->support * stretch;
    double center = (pixel + 0.5) * scale, total = 0;
    int start = (int) (center - support + 0.5), end = (int) (center + support + 0.5);
    if (start < 0) start = 0;
    if (end > size) end = size;
    Taps taps = {start, end - start, allocate((size_t) (end - start), sizeof(int32_t))};
    for (int i = 0; i < taps.count; i++) total += filter->weight((i + start - center + 0.5) * (1 / stretch));
    for (int i = 0; i < taps.count; i++) {
        double weight = filter->weight((i + start - center + 0.5) * (1 / stretch));
        double fixed = (total != 0 ? weight / total : weight) * (1 << PRECISION_BITS);
        taps.weights[i] = (int32_t) (fixed < 0 ? fixed - 0.5 : fixed + 0.5);
    }
    return taps;
}

static uint8_t rounded(int64_t sum)
{
    int64_t value = sum >> PRECISION_BITS;
    return (uint8_t) (value < 0 ? 0 : value > 255 ? 255 : value);
}

/* One pass; `step` is the distance of a line's pixels, `next` that of lines, both in bytes of one channel each. */
static void resize_lines(const uint8_t *from, uint8_t *to, int size, int wanted, int lines, size_t from_step,
                         size_t from_next, size_t to_step, size_t to_next, int channels, const Filter *filter)
{
    for (int pixel = 0; pixel < wanted; pixel++) {
        Taps taps = taps_of(size, wanted, pixel, filter);
        for (int line = 0; line < lines; line++) {
            for (int channel = 0; channel < channels; channel++) {
                const uint8_t *in = from + (size_t) line * from_next + (size_t) taps.start * from_step + channel;
                int64_t sum = INT64_C(1) << (PRECISION_BITS - 1);
                for (int i = 0; i < taps.count; i++) sum += (int64_t) in[(size_t) i * from_step] * taps.weights[i];
                to[(size_t) line * to_next + (size_t) pixel * to_step + (size_t) channel] = rounded(sum);
            }
        }
        free(taps.weights);
    }
}

/* Gives a new picture and frees the old one. */
static Picture resize_rows(Picture picture, int width, const Filter *filter)
{
    if (picture.width == width) return picture;
    Picture out = picture_new(width, picture.height, picture.channels);
    size_t c = (size_t) picture.channels;
    resize_lines(picture.data, out.data, picture.width, width, picture.height, c, (size_t) picture.width * c, c,
                 (size_t) width * c, picture.channels, filter);
    free(picture.data);
    return out;
}

static Picture resize_columns(Picture picture, int height, const Filter *filter)
{
    if (picture.height == height) return picture;
    Picture out = picture_new(picture.width, height, picture.channels);
    size_t c = (size_t) picture.channels, row = (size_t) picture.width * c;
    resize_lines(picture.data, out.data, picture.height, height, picture.width, row, c, row, c, picture.channels, filter);
    free(picture.data);
    return out;
}

/* The old pixel of each new one; added up step by step, as Pillow does, so that rounding is the same. */
static int *steps(int size, int wanted)
{
    int *found = allocate((size_t) wanted, sizeof *found);
    double scale = (double) size / wanted, at = scale * 0.5;
    for (int i = 0; i < wanted; i++, at += scale) found[i] = (int) at < size ? (int) at : size - 1;
    return found;
}

static Picture nearest(Picture picture, int width, int height)
{
    Picture out = picture_new(width, height, picture.channels);
    int *columns = steps(picture.width, width), *rows = steps(picture.height, height);
    size_t c = (size_t) picture.channels;
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            memcpy(out.data + ((size_t) y * (size_t) width + (size_t) x) * c,
                   picture.data + ((size_t) rows[y] * (size_t) picture.width + (size_t) columns[x]) * c, c);
        }
    }
    free(columns);
    free(rows);
    return out;
}

static Picture copy(Picture picture)
{
    Picture out = picture_new(picture.width, picture.height, picture.channels);
    memcpy(out.data, picture.data, (size_t) picture.width * (size_t) picture.height * (size_t) picture.channels);
    return out;
}

/* Pillow 13 begins with the pass that shrinks more; those before it began with the rows. Seen by experiment. */
static bool columns_first(Picture picture, int width, int height)
{
    return picture.height > height && picture.height - height > 2 * (picture.width - width);
}

Picture resize(Picture picture, int width, int height, const char *resample)
{
    if (strcmp(resample, "nearest") == 0) return nearest(picture, width, height);
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++) {
        const Filter *filter = &filters[i];
        if (strcmp(filter->name, resample) != 0) continue;
        if (columns_first(picture, width, height)) {
            return resize_rows(resize_columns(copy(picture), height, filter), width, filter);
        }
        return resize_columns(resize_rows(copy(picture), width, filter), height, filter);
    }
    fail("unknown resample '%s'; allowed: nearest, box, bilinear, hamming, bicubic, lanczos", resample);
}
