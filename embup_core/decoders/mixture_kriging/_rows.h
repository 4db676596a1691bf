/* A whole row through `MixtureKriging`, without an array per step: what `CalibratedRegression._predict` and
 * `KrigedTrend.regression` compute in NumPy, from tables that `kernel.py` lays out.
 *
 * Plain C: loops over contiguous float32 that compilers turn into vector instructions by themselves. Where the
 * C library can choose at run time there are copies for newer processors.
 */
#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && __GNUC__ >= 12 && !defined(__clang__)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define FOR_EACH_PROCESSOR
#endif

/* Numbers of a decoder, and where its tables are; both in the order of `kernel.py`. */
enum { INPUT, TREND, MEAN, OUTPUT, PHASES, ROWS, FEATURES, NEIGHBOURS, CANDIDATES, SIZES };
enum {
    RADIUS_SQUARED, FEATURE_SCALE, LENGTH_SCALE, NUGGET, CONSTANT, UNEXPLAINED, DISTANCE, SHORT, LONG,
    BROAD_SHARE, LEAST_SHARE, MEAN_SCALE, ROW_ERROR, ROW_ERROR_OOD, NUMBERS
};
enum { WEIGHTS, INTERCEPT, POINTS, FEATURE_ROWS, RESIDUALS, RESIDUAL_SCALE, FREQUENCIES, TABLES };
enum { WHITENING, COARSE, COARSE_SCALE, FORMS, FORM_CONSTANT, GAINS, MIXTURE_TABLES };
enum { MOST_DIMS = 256 }; /* of z, of a row's components and of its neighbours: for arrays on the stack */
enum { BLOCK = 8, GROUP = 4 }; /* rows that share one reading of the coarse forms, and those read at once */
enum { PART = 32 };
#define PADDED(width) (((width) + 63) / 64 * 64) /* so that no loop over a form has a rest */

typedef struct {
    const void *table[MIXTURE_TABLES];
    int32_t components, chosen;
    float temperature, form_sum, linear_unit; /* see `prepare` */
} Mixture;

typedef struct {
    const int32_t *size;
    const float *number;
    const void *table[TABLES];
    Mixture fine, broad;
} Decoder;

typedef struct {
    float *products, *coarse, *mean, *trend, *spare;
    int16_t *rounded;
} Memory;

FOR_EACH_PROCESSOR
static float dot(const float *a, const float *b, int n) {
    float sum = 0;
    for (int i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* Adds factors @ rows, (count) @ (count, n), to a sum that is held in registers, a part at a time. */
FOR_EACH_PROCESSOR
static void combine(float *sum, const float *rows, const float *factors, int count, int n) {
    int start = 0;
    for (; start + PART <= n; start += PART) {
        float part[PART] = {0};
        for (int j = 0; j < count; j++) {
            const float *row = rows + (size_t)j * n + start;
            for (int i = 0; i < PART; i++) part[i] += factors[j] * row[i];
        }
        for (int i = 0; i < PART; i++) sum[start + i] += part[i];
    }
    for (int j = 0; j < count && start < n; j++)
        for (int i = start; i < n; i++) sum[i] += factors[j] * rows[(size_t)j * n + i];
}

/* Puts a value among the largest ones, which are sorted downwards; the smallest of them falls out. */
FOR_EACH_PROCESSOR
static void keep(float *values, int32_t *places, int n, float value, int32_t place) {
    int at = n - 1;
    for (; at > 0 && values[at - 1] < value; at--) values[at] = values[at - 1], places[at] = places[at - 1];
    values[at] = value, places[at] = place;
}

/* Products z_i z_j and, below them, z in the mixture's units; all of them rounded. A rounded sum is off
 * by at most what is returned times the unit of its form, and the doubt besides. */
FOR_EACH_PROCESSOR
static float prepare(
    const Mixture *mixture, const float *point, int r, float *products, int16_t *rounded, float *unit, float *doubt
) {
    const int pairs = r * (r + 1) / 2, width = pairs + r;
    const int limit = INT32_MAX / 128 / width; /* so that no sum leaves 32 bits */
    float *z = products + pairs, *product = products, largest = FLT_MIN, sum = 0;
    memset(z, 0, r * sizeof(float));
    combine(z, mixture->table[WHITENING], point, r, r);
    for (int i = 0; i < r; i++)
        for (int j = i; j < r; j++) *product++ = z[i] * z[j];
    for (int i = 0; i < width; i++) {
        const float size = fabsf(products[i]) * (i < pairs ? 1 : mixture->linear_unit);
        largest = size > largest ? size : largest;
        sum += size;
    }
    *unit = largest / (limit < 16383 ? limit : 16383);
    for (int i = 0; i < width; i++) {
        const float value = products[i] * (i < pairs ? 1 : mixture->linear_unit) / *unit;
        rounded[i] = (int16_t)(value + (value < 0 ? -0.5f : 0.5f));
    }
    for (int i = width; i < PADDED(width); i++) rounded[i] = 0;
    *doubt = *unit / 2 * mixture->form_sum + 1e-3f;
    return sum / 2;
}

/* log p(k, z) of some rows but for what all components share, from forms of one byte a number. */
FOR_EACH_PROCESSOR
static void rate_components(
    const Mixture *mixture, int r, int rows, const int16_t *rounded, const float *units, float *found
) {
    const int padded = PADDED(r * (r + 1) / 2 + r), components = mixture->components;
    const float *scale = mixture->table[COARSE_SCALE], *constant = mixture->table[FORM_CONSTANT];
    const int8_t *form = mixture->table[COARSE];
    for (int k = 0; k < components; k++, form += padded) {
        int row = 0;
        for (; row + GROUP <= rows; row += GROUP) {
            const int16_t *a = rounded + row * padded, *b = a + padded, *c = b + padded, *d = c + padded;
            int32_t of_a = 0, of_b = 0, of_c = 0, of_d = 0;
            for (int i = 0; i < padded; i++) {
                const int16_t number = form[i];
                of_a += number * a[i], of_b += number * b[i], of_c += number * c[i], of_d += number * d[i];
            }
            const int32_t totals[GROUP] = {of_a, of_b, of_c, of_d};
            for (int i = 0; i < GROUP; i++)
                found[(row + i) * components + k] = constant[k] + (float)totals[i] * (scale[k] * units[row + i]);
        }
        for (; row < rows; row++) {
            const int16_t *a = rounded + row * padded;
            int32_t total = 0;
            for (int i = 0; i < padded; i++) total += (int16_t)form[i] * a[i];
            found[row * components + k] = constant[k] + (float)total * (scale[k] * units[row]);
        }
    }
}

/* E[c | z] in its leading dimensions; only the forms of components that may be among the best are read in full. */
FOR_EACH_PROCESSOR
static void condition(
    const Mixture *mixture, int r, int d, const float *products, const float *coarse, float units, float doubt,
    float *mean
) {
    const float *forms = mixture->table[FORMS], *constant = mixture->table[FORM_CONSTANT];
    const float *gains = mixture->table[GAINS], *scale = mixture->table[COARSE_SCALE];
    const int width = r * (r + 1) / 2 + r, m = mixture->chosen;
    const float *z = products + width - r;
    float best[MOST_DIMS], factors[MOST_DIMS], shared[MOST_DIMS + 1], sum = 0;
    int32_t places[MOST_DIMS];
    for (int i = 0; i < m; i++) best[i] = -FLT_MAX, places[i] = 0;
    for (int k = 0; k < mixture->components; k++) { /* the best at worst */
        const float value = coarse[k] - scale[k] * units;
        if (value > best[m - 1]) keep(best, places, m, value, k);
    }
    const float least = best[m - 1] - 2 * doubt;
    for (int i = 0; i < m; i++) best[i] = -FLT_MAX, places[i] = 0;
    for (int k = 0; k < mixture->components; k++) {
        if (coarse[k] + scale[k] * units < least) continue;
        const float value = constant[k] + dot(forms + (size_t)k * width, products, width);
        if (value > best[m - 1]) keep(best, places, m, value, k);
    }
    for (int i = m - 1; i >= 0; i--) sum += factors[i] = expf(mixture->temperature * (best[i] - best[0]));
    memset(mean, 0, d * sizeof(float));
    for (int i = 0; i < m; i++) {
        const float *gain = gains + (size_t)places[i] * (r + 1) * d, share = factors[i] / sum;
        for (int j = 0; j < r; j++) shared[j] = share * z[j];
        shared[r] = share;
        combine(mean, gain, shared, r + 1, d);
    }
}

/* Sines and cosines by Cephes' polynomials, within an ulp or so of the phase: those of decoded rows are some tens. */
FOR_EACH_PROCESSOR
static void cosines_and_sines(const float *phases, float *cosines, float *sines, float length, int n) {
    for (int i = 0; i < n; i++) {
        const float x = phases[i], turns = x * 0.63661977236758134f;
        const int32_t quarter = (int32_t)(turns + (turns < 0 ? -0.5f : 0.5f));
        const float y = x - (float)quarter * 1.57079632679489662f, s = y * y;
        const float sine = y + y * s * (-1.6666654611e-1f + s * (8.3321608736e-3f - s * 1.9515295891e-4f));
        const float cosine = 1 - s / 2 + s * s * (4.166664568298827e-2f + s * (-1.388731625493765e-3f
                                                                               + s * 2.443315711809948e-5f));
        const float a = quarter & 1 ? sine : cosine, b = quarter & 1 ? cosine : sine;
        cosines[i] = length * ((quarter + 1) & 2 ? -a : a);
        sines[i] = length * (quarter & 2 ? -b : b);
    }
}

/* Weights of the nearest rows, (K + nugget I)^-1 k, by Cholesky; `places` gets them, nearest first. */
FOR_EACH_PROCESSOR
static float neighbours(
    const Decoder *decoder, const float *point, const int64_t *candidates, const float *features, int32_t *places,
    float *weights, float *work
) {
    const int r = decoder->size[INPUT], f = decoder->size[FEATURES], n = decoder->size[NEIGHBOURS];
    const float *points = decoder->table[POINTS], *feature_rows = decoder->table[FEATURE_ROWS];
    const float rate = -1 / decoder->number[LENGTH_SCALE];
    float nearest[MOST_DIMS], *offsets = work + n * n;
    for (int i = 0; i < n; i++) nearest[i] = -FLT_MAX, places[i] = 0;
    for (int c = 0; c < decoder->size[CANDIDATES]; c++) {
        const float *row = points + candidates[c] * r;
        float squared = 0;
        for (int i = 0; i < r; i++) squared += (row[i] - point[i]) * (row[i] - point[i]);
        if (-squared > nearest[n - 1]) keep(nearest, places, n, -squared, (int32_t)candidates[c]);
    }
    for (int i = 0; i < n; i++) {
        float *offset = offsets + i * (r + f);
        for (int j = 0; j < r; j++) offset[j] = points[(size_t)places[i] * r + j] - point[j];
        for (int j = 0; j < f; j++) offset[r + j] = feature_rows[(size_t)places[i] * f + j] - features[j];
        weights[i] = expf(rate * sqrtf(dot(offset, offset, r + f)));
    }
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < i; j++) {
            const float *a = offsets + i * (r + f), *b = offsets + j * (r + f);
            float squared = 0;
            for (int l = 0; l < r + f; l++) squared += (a[l] - b[l]) * (a[l] - b[l]);
            work[i * n + j] = (expf(rate * sqrtf(squared)) - dot(work + i * n, work + j * n, j)) / work[j * n + j];
        }
        const float pivot = 1 + decoder->number[NUGGET] - dot(work + i * n, work + i * n, i);
        work[i * n + i] = sqrtf(pivot > FLT_EPSILON ? pivot : FLT_EPSILON); /* copies, and hardly a nugget */
        weights[i] = (weights[i] - dot(work + i * n, weights, i)) / work[i * n + i];
    }
    for (int i = n - 1; i >= 0; i--) {
        for (int j = i + 1; j < n; j++) weights[i] -= work[j * n + i] * weights[j];
        weights[i] /= work[i * n + i];
    }
    return sqrtf(-nearest[0]);
}

/* The row within the radius of the training rows; see `RadialClamp`. */
FOR_EACH_PROCESSOR
static void clamp(const Decoder *decoder, const float *point, float *within) {
    const int r = decoder->size[INPUT];
    const float squared = dot(point, point, r), most = decoder->number[RADIUS_SQUARED];
    const float shrink = squared > most ? most / squared : 1;
    for (int i = 0; i < r; i++) within[i] = point[i] * shrink;
}

/* Up to BLOCK rows. */
FOR_EACH_PROCESSOR
static void decode_block(
    const Decoder *decoder, const float *points, const int64_t *candidates, int count, float *rows,
    float *confidences, Memory *memory
) {
    const int32_t *size = decoder->size;
    const float *number = decoder->number;
    const int r = size[INPUT], d = size[TREND], mean_dims = size[MEAN], phases = size[PHASES];
    const int width = r * (r + 1) / 2 + r;
    float *mean = memory->mean, *trend = memory->trend, *spare = memory->spare, weights[MOST_DIMS];
    float errors[BLOCK], doubts[BLOCK], units[BLOCK];
    float within[MOST_DIMS], features[MOST_DIMS];
    int32_t places[MOST_DIMS];
    for (int at = 0; at < count; at++) {
        clamp(decoder, points + at * r, within);
        errors[at] = prepare(
            &decoder->fine, within, r, memory->products + at * width, memory->rounded + at * PADDED(width),
            units + at, doubts + at
        );
    }
    rate_components(&decoder->fine, r, count, memory->rounded, units, memory->coarse);
    for (int at = 0; at < count; at++) {
        const float *point = points + at * r;
        float *row = rows + (size_t)at * size[OUTPUT];
        condition(
            &decoder->fine, r, d, memory->products + at * width,
            memory->coarse + (size_t)at * decoder->fine.components, errors[at], doubts[at], trend
        );
        clamp(decoder, point, within);
        memcpy(trend + d, decoder->table[INTERCEPT], (mean_dims - d) * sizeof(float));
        combine(trend + d, decoder->table[WEIGHTS], within, r, mean_dims - d);

        for (int i = 0; i < size[FEATURES]; i++) features[i] = trend[i] * number[FEATURE_SCALE];
        const float nearest = neighbours(
            decoder, point, candidates + at * size[CANDIDATES], features, places, weights, spare
        );
        const float *scale = decoder->table[RESIDUAL_SCALE];
        memset(mean, 0, mean_dims * sizeof(float));
        for (int k = 0; k < size[NEIGHBOURS]; k++) {
            const int8_t *residual = (const int8_t *)decoder->table[RESIDUALS] + (size_t)places[k] * mean_dims;
            for (int i = 0; i < mean_dims; i++) mean[i] += weights[k] * residual[i];
        }
        for (int i = 0; i < mean_dims; i++) mean[i] = trend[i] + mean[i] * scale[i];

        float odds = number[CONSTANT] + number[UNEXPLAINED] * (1 - dot(mean, mean, mean_dims))
                     + number[DISTANCE] * nearest;
        odds = odds > 30 ? 30 : odds < -30 ? -30 : odds;
        const float score = 1 / (1 + expf(-odds)), share = score * number[BROAD_SHARE];
        if (share >= number[LEAST_SHARE]) { /* trend becomes the broad regression */
            float *products = memory->products + at * width; /* this row needs them no more */
            const float error = prepare(&decoder->broad, within, r, products, memory->rounded, units, doubts);
            rate_components(&decoder->broad, r, 1, memory->rounded, units, spare);
            condition(&decoder->broad, r, d, products, spare, error, *doubts, trend);
            for (int i = 0; i < mean_dims; i++) mean[i] += share * (trend[i] - mean[i]);
        }
        for (int i = 0; i < mean_dims; i++) row[i] = mean[i] * number[MEAN_SCALE];

        const float explained = dot(row, row, mean_dims), left = explained < 1 ? 1 - explained : 0;
        const float rate = expf(-(number[SHORT] + (number[LONG] - number[SHORT]) * score));
        memset(spare, 0, phases * sizeof(float));
        for (int i = 0; i < r; i++) within[i] = point[i] * rate;
        combine(spare, decoder->table[FREQUENCIES], within, r, phases);
        float *complement = row + mean_dims;
        memset(complement, 0, (size[OUTPUT] - mean_dims) * sizeof(float));
        cosines_and_sines(spare, complement, complement + phases, sqrtf(left / phases), phases);
        const float length = sqrtf(dot(row, row, size[OUTPUT]));
        const float unit = 1 / (length > FLT_MIN ? length : FLT_MIN);
        for (int i = 0; i < size[OUTPUT]; i++) row[i] *= unit;
        const float known = explained < 1 ? explained : 1;
        const float confidence = 1 - (1 - known) * (number[ROW_ERROR] + number[ROW_ERROR_OOD] * score);
        confidences[at] = confidence < 0 ? 0 : confidence > 1 ? 1 : confidence;
    }
}
