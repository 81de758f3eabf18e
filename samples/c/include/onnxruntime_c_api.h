/* The part of ONNX Runtime's C API that this sample calls, for machines that have the library but not its headers (the
 * pip wheel, for one). With the official header: make ORT_INCLUDE=/its/directory; the sample compiles against both.
 *
 * The table of functions is a binary interface: functions are only ever added at its end. The places were compared with
 * those in ONNX Runtime's headers, and hold since version 6 (ONNX Runtime 1.6). The last function is there since version
 * 18, and only asked for where weights lie beside a model; its place is proven by a test that loads such weights.
 */
#ifndef EDGEKIT_SAMPLE_ONNXRUNTIME_C_API_H
#define EDGEKIT_SAMPLE_ONNXRUNTIME_C_API_H

#include <stddef.h>
#include <stdint.h>

#define ORT_API_VERSION 17

typedef struct OrtEnv OrtEnv;
typedef struct OrtStatus OrtStatus;
typedef struct OrtSession OrtSession;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtRunOptions OrtRunOptions;
typedef struct OrtMemoryInfo OrtMemoryInfo;
typedef struct OrtValue OrtValue;
typedef struct OrtTensorTypeAndShapeInfo OrtTensorTypeAndShapeInfo;

typedef enum { ORT_LOGGING_LEVEL_ERROR = 3 } OrtLoggingLevel;
typedef enum {
    ORT_DISABLE_ALL = 0,
    ORT_ENABLE_BASIC = 1,
    ORT_ENABLE_EXTENDED = 2,
    ORT_ENABLE_LAYOUT = 3,
    ORT_ENABLE_ALL = 99
} GraphOptimizationLevel;
typedef enum { ORT_SEQUENTIAL = 0, ORT_PARALLEL = 1 } ExecutionMode;
typedef enum { OrtInvalidAllocator = -1, OrtArenaAllocator = 1 } OrtAllocatorType;
typedef enum { OrtMemTypeCPU = -1, OrtMemTypeDefault = 0 } OrtMemType;
typedef enum {
    ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED = 0,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT = 1,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 = 2,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8 = 3,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32 = 6,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 = 7,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL = 9
} ONNXTensorElementDataType;

typedef struct OrtApi {
    void *unused_0_to_1[2];
    const char *(*GetErrorMessage)(const OrtStatus *);                                                            /* 2 */
    OrtStatus *(*CreateEnv)(OrtLoggingLevel, const char *, OrtEnv **);                                            /* 3 */
    void *unused_4_to_7[4];
    OrtStatus *(*CreateSessionFromArray)(const OrtEnv *, const void *, size_t, const OrtSessionOptions *,         /* 8 */
                                         OrtSession **);
    OrtStatus *(*Run)(OrtSession *, const OrtRunOptions *, const char *const *, const OrtValue *const *, size_t,  /* 9 */
                      const char *const *, size_t, OrtValue **);
    OrtStatus *(*CreateSessionOptions)(OrtSessionOptions **);                                                    /* 10 */
    void *unused_11_to_12[2];
    OrtStatus *(*SetSessionExecutionMode)(OrtSessionOptions *, ExecutionMode);                                   /* 13 */
    void *unused_14_to_16[3];
    OrtStatus *(*DisableMemPattern)(OrtSessionOptions *);                                                        /* 17 */
    void *unused_18[1];
    OrtStatus *(*DisableCpuMemArena)(OrtSessionOptions *);                                                       /* 19 */
    void *unused_20_to_22[3];
    OrtStatus *(*SetSessionGraphOptimizationLevel)(OrtSessionOptions *, GraphOptimizationLevel);                 /* 23 */
    OrtStatus *(*SetIntraOpNumThreads)(OrtSessionOptions *, int);                                                /* 24 */
    OrtStatus *(*SetInterOpNumThreads)(OrtSessionOptions *, int);                                                /* 25 */
    void *unused_26_to_48[23];
    OrtStatus *(*CreateTensorWithDataAsOrtValue)(const OrtMemoryInfo *, void *, size_t, const int64_t *, size_t, /* 49 */
                                                 ONNXTensorElementDataType, OrtValue **);
    void *unused_50[1];
    OrtStatus *(*GetTensorMutableData)(OrtValue *, void **);                                                     /* 51 */
    void *unused_52_to_59[8];
    OrtStatus *(*GetTensorElementType)(const OrtTensorTypeAndShapeInfo *, ONNXTensorElementDataType *);          /* 60 */
    void *unused_61_to_63[3];
    OrtStatus *(*GetTensorShapeElementCount)(const OrtTensorTypeAndShapeInfo *, size_t *);                       /* 64 */
    OrtStatus *(*GetTensorTypeAndShape)(const OrtValue *, OrtTensorTypeAndShapeInfo **);                         /* 65 */
    void *unused_66_to_68[3];
    OrtStatus *(*CreateCpuMemoryInfo)(OrtAllocatorType, OrtMemType, OrtMemoryInfo **);                           /* 69 */
    void *unused_70_to_91[22];
    void (*ReleaseEnv)(OrtEnv *);                                                                                /* 92 */
    void (*ReleaseStatus)(OrtStatus *);                                                                          /* 93 */
    void (*ReleaseMemoryInfo)(OrtMemoryInfo *);                                                                  /* 94 */
    void (*ReleaseSession)(OrtSession *);                                                                        /* 95 */
    void (*ReleaseValue)(OrtValue *);                                                                            /* 96 */
    void *unused_97_to_98[2];
    void (*ReleaseTensorTypeAndShapeInfo)(OrtTensorTypeAndShapeInfo *);                                          /* 99 */
    void (*ReleaseSessionOptions)(OrtSessionOptions *);                                                         /* 100 */
    void *unused_101_to_129[29];
    OrtStatus *(*AddSessionConfigEntry)(OrtSessionOptions *, const char *, const char *);                       /* 130 */
    void *unused_131_to_278[148];
    OrtStatus *(*AddExternalInitializersFromFilesInMemory)(OrtSessionOptions *, const char *const *,            /* 279 */
                                                           char *const *, const size_t *, size_t); /* since version 18 */
} OrtApi;

typedef struct OrtApiBase {
    const OrtApi *(*GetApi)(uint32_t version);
    const char *(*GetVersionString)(void);
} OrtApiBase;

const OrtApiBase *OrtGetApiBase(void);

#endif
