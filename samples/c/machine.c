#include "machine.h"

#include "fail.h"

#include <ctype.h>
#include <onnxruntime_c_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A CPU has a feature under any of these names, which are Linux's. ARM's sums of int8 do not saturate: they need no VNNI. */
static const char *const same[][5] = {
    {"vnni", "avx512_vnni", "avx_vnni", "amx_int8", "asimd"}, {"avx512_vnni", "avx_vnni"}, {"neon", "asimd"},
    {"neon_dotprod", "asimddp"}, {"neon_i8mm", "i8mm"},
};
static char reason[256];

static const char *because(const char *format, const char *first, const char *second)
{
    snprintf(reason, sizeof reason, format, first, second);
    return reason;
}

/* By the first two numbers: 1.9.0 is older than 1.17. */
static bool is_older(const char *version, const char *wanted)
{
    int a[2] = {0}, b[2] = {0};
    sscanf(version, "%6d.%6d", &a[0], &a[1]);
    sscanf(wanted, "%6d.%6d", &b[0], &b[1]);
    return a[0] != b[0] ? a[0] < b[0] : a[1] < b[1];
}

/* What Linux says that the CPU has, with a space before and behind each; "" where nobody knows. Lives until the end. */
static const char *cpu_flags(void)
{
    static char flags[16384];
    FILE *file = flags[0] ? NULL : fopen("/proc/cpuinfo", "r");
    if (file == NULL) return flags;
    while (fgets(flags, sizeof flags, file) != NULL) {
        char *colon = strchr(flags, ':');
        if (colon == NULL || (strncmp(flags, "flags", 5) != 0 && strncmp(flags, "Features", 8) != 0)) continue;
        memmove(flags, colon + 1, strlen(colon));
        for (char *c = flags; *c; c++) *c = isspace((unsigned char) *c) ? ' ' : *c;
        fclose(file);
        return flags;
    }
    fclose(file);
    flags[0] = '\0';
    return flags;
}

static bool has_flag(const char *flags, const char *name)
{
    char word[80];
    snprintf(word, sizeof word, " %s ", name);
    return strstr(flags, word) != NULL;
}

static bool has_feature(const char *flags, const char *feature)
{
    char flag[64];
    size_t length = 0;
    for (; feature[length] && length < sizeof flag - 1; length++) {
        flag[length] = feature[length] == '-' ? '_' : (char) tolower((unsigned char) feature[length]);
    }
    flag[length] = '\0';
    if (has_flag(flags, flag)) return true;
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        for (size_t k = 1; strcmp(same[i][0], flag) == 0 && k < 5 && same[i][k]; k++) {
            if (has_flag(flags, same[i][k])) return true;
        }
    }
    return false;
}

static bool names(const Json *array, const char *wanted)
{
    for (size_t i = 0; i < array->count; i++) {
        if (array->items[i].kind == JSON_STRING && strcmp(array->items[i].text, wanted) == 0) return true;
    }
    return false;
}

const char *why_not(const Json *variant)
{
    const Json *encrypted = json_find(variant, "encrypted"), *features = json_find(variant, "cpu_features");
    const char *version = OrtGetApiBase()->GetVersionString(), *flags = cpu_flags();
    if (encrypted != NULL && encrypted->kind != JSON_NULL) {
        return "it is encrypted, which only Python's edgekit.runtime opens; pack it without --encrypt";
    }
    if (!names(json_array(variant, "providers"), "CPUExecutionProvider")) return "it is for other providers than the CPU's";
    if (json_find(variant, "minimum_onnxruntime")) {
        const char *oldest = json_text(variant, "minimum_onnxruntime");
        if (is_older(version, oldest)) {
            return because("it needs ONNX Runtime %.20s or newer, and %.20s is installed", oldest, version);
        }
    }
    for (size_t i = 0; features != NULL && *flags && i < features->count; i++) {
        const Json *feature = &features->items[i];
        if (feature->kind != JSON_STRING) fail("the manifest's 'cpu_features' must be texts");
        if (!has_feature(flags, feature->text)) return because("this CPU has no %.60s%s", feature->text, "");
    }
    return NULL;
}
