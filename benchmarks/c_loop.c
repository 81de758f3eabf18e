/* The loop that a program in C writes around ONNX Runtime, to see what Python and edgekit add to it.
 *
 *     c_loop LIBRARY MODEL THREADS DIM [DIM ...] > talk
 *
 * The model has one float32 input, which is filled with ones, and float32 outputs, of which the first is looked at.
 * It answers on stdout: first the library's version and the sum of the output's elements, with their number; then, for
 * each line of stdin, a number of milliseconds, how many runs it made in that time and their median in nanoseconds.
 *
 * The wheel has no headers. What is called is declared here by its place in the table of functions, which is part of
 * ONNX Runtime's binary interface: functions are only ever added at its end. Version 1 of the table has all that is
 * needed, and every later library still gives it.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef struct {
    void *const *(*get_api)(uint32_t version);
    const char *(*get_version)(void);
} Base;

/* Opaque things: environment, options, session, memory description, value, shape, status. */
typedef void Env, Options, Session, Memory, Value, Shape, Status, Allocator;

enum {
    GET_ERROR_MESSAGE = 2,
    CREATE_ENV = 3,
    CREATE_SESSION = 7,
    RUN = 9,
    CREATE_SESSION_OPTIONS = 10,
    SET_INTRA_OP_THREADS = 24,
    SET_INTER_OP_THREADS = 25,
    INPUT_NAME = 36,
    OUTPUT_NAME = 37,
    CREATE_TENSOR = 49,
    TENSOR_DATA = 51,
    ELEMENT_COUNT = 64,
    SHAPE_OF = 65,
    CPU_MEMORY = 69,
    DEFAULT_ALLOCATOR = 78,
    RELEASE_VALUE = 96
};
enum { API_VERSION = 1, LOG_ERROR = 3, FLOAT32 = 1, ARENA = 1, DEFAULT_MEMORY = 0 };

static void *const *api;
static const char *version;

#define CALL(index, types, ...) check(((Status * (*) types) api[index])(__VA_ARGS__))

static void check(Status *status)
{
    if (status == NULL) return;
    fprintf(stderr, "%s\n", ((const char *(*)(Status *)) api[GET_ERROR_MESSAGE])(status));
    exit(1);
}

static void fail(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *) a, y = *(const int64_t *) b;
    return (x > y) - (x < y);
}

static void open_library(const char *path)
{
    void *library = dlopen(path, RTLD_NOW);
    if (library == NULL) fail(dlerror());
    const Base *(*get_base)(void) = (const Base *(*) (void)) dlsym(library, "OrtGetApiBase");
    if (get_base == NULL) fail("the library has no OrtGetApiBase");
    const Base *base = get_base();
    api = base->get_api(API_VERSION);
    if (api == NULL) fail("the library does not give version 1 of its functions");
    version = base->get_version();
}

static Session *open_session(const char *model, int threads)
{
    Env *env;
    Options *options;
    Session *session;
    CALL(CREATE_ENV, (int, const char *, Env **), LOG_ERROR, "c_loop", &env);
    CALL(CREATE_SESSION_OPTIONS, (Options **), &options);
    CALL(SET_INTRA_OP_THREADS, (Options *, int), options, threads);
    CALL(SET_INTER_OP_THREADS, (Options *, int), options, 1);
    CALL(CREATE_SESSION, (Env *, const char *, Options *, Session **), env, model, options, &session);
    return session;
}

static Value *ones(const int64_t *dims, size_t rank)
{
    size_t count = 1;
    for (size_t i = 0; i < rank; i++) count *= (size_t) dims[i];
    float *data = aligned_alloc(64, (count * sizeof(float) + 63) / 64 * 64);
    if (data == NULL) fail("no memory for the input");
    for (size_t i = 0; i < count; i++) data[i] = 1.0f;
    Memory *memory;
    Value *value;
    CALL(CPU_MEMORY, (int, int, Memory **), ARENA, DEFAULT_MEMORY, &memory);
    CALL(CREATE_TENSOR, (Memory *, void *, size_t, const int64_t *, size_t, int, Value **), memory, data,
         count * sizeof(float), dims, rank, FLOAT32, &value);
    return value;
}

static void print_sum(Value *output)
{
    Shape *shape;
    size_t count;
    float *data;
    CALL(SHAPE_OF, (Value *, Shape **), output, &shape);
    CALL(ELEMENT_COUNT, (Shape *, size_t *), shape, &count);
    CALL(TENSOR_DATA, (Value *, void **), output, (void **) &data);
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += data[i];
    printf("%s %.9g %zu\n", version, sum, count);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    enum { MOST_DIMS = 8, MOST_RUNS = 1 << 20 };
    int64_t dims[MOST_DIMS];
    size_t rank = argc > 4 ? (size_t) argc - 4 : 0;
    if (rank == 0 || rank > MOST_DIMS) fail("usage: c_loop LIBRARY MODEL THREADS DIM [DIM ...]");
    for (size_t i = 0; i < rank; i++) dims[i] = atoll(argv[4 + i]);

    open_library(argv[1]);
    Session *session = open_session(argv[2], atoi(argv[3]));
    Allocator *allocator;
    char *input_name, *output_name;
    CALL(DEFAULT_ALLOCATOR, (Allocator **), &allocator);
    CALL(INPUT_NAME, (Session *, size_t, Allocator *, char **), session, 0, allocator, &input_name);
    CALL(OUTPUT_NAME, (Session *, size_t, Allocator *, char **), session, 0, allocator, &output_name);
    Value *input = ones(dims, rank), *output = NULL;
    void (*release)(Value *) = (void (*)(Value *)) api[RELEASE_VALUE];

#define RUN_ONCE()                                                                                                     \
    CALL(RUN,                                                                                                          \
         (Session *, void *, const char *const *, Value *const *, size_t, const char *const *, size_t, Value **),     \
         session, NULL, (const char *const *) &input_name, (Value *const *) &input, 1,                                 \
         (const char *const *) &output_name, 1, &output)

    RUN_ONCE();
    print_sum(output);
    release(output);

    int64_t *taken = malloc(MOST_RUNS * sizeof(int64_t));
    double milliseconds;
    if (taken == NULL) fail("no memory for the times");
    while (scanf("%lf", &milliseconds) == 1) {
        int64_t end = now_ns() + (int64_t) (milliseconds * 1e6);
        size_t runs = 0;
        while (runs == 0 || (now_ns() < end && runs < MOST_RUNS)) {
            output = NULL;
            int64_t start = now_ns();
            RUN_ONCE();
            release(output); /* as Python does before it looks at the clock again */
            taken[runs++] = now_ns() - start;
        }
        qsort(taken, runs, sizeof(int64_t), by_size);
        printf("%zu %lld\n", runs, (long long) taken[runs / 2]);
        fflush(stdout);
    }
    return 0;
}
