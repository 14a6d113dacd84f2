/* Trains [784, 128, 64, 10] (ReLU, softmax, SGD) for two epochs and prints a hash of what it learned. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "fastmlp_kernels.h"

enum { LAYERS = 3, BATCH = 64, ROWS = 256, LANES = FASTMLP_LANES_BYTES / sizeof(float) };
static const int64_t WIDTHS[] = {784, 128, 64, 10};
static int64_t taken; /* elements of the floats */

static int64_t panels(int64_t width) { return (width + LANES - 1) / LANES; }
static int64_t stride(int64_t width) { return (panels(width) | 1) * LANES; }
static int64_t take(int64_t n) { return (taken += panels(n) * LANES) - panels(n) * LANES; }
static void *zeros(int64_t n, size_t size) { return calloc(n, size); }

static float noise(uint64_t k) { /* in [-0.5, 0.5), exact */
    k = (k + 1) * 0x9E3779B97F4A7C15u;
    k = (k ^ (k >> 30)) * 0xBF58476D1CE4E5B9u;
    return (float)((k ^ (k >> 27)) >> 40) / (1 << 24) - 0.5f;
}

int main(void) {
    fastmlp_layer layers[LAYERS] = {0};
    fastmlp_plan plan = {.n_layers = LAYERS, .batch_size = BATCH, .input_scale = 1, .scale_rate = 1};
    plan.output = FASTMLP_OUTPUT_SOFTMAX, plan.loss = FASTMLP_LOSS_CROSS_ENTROPY;
    plan.optimizer = FASTMLP_OPTIMIZER_SGD, plan.x_stride = WIDTHS[0];
    plan.n_visits = plan.epoch_visits = ROWS, plan.end_batch = ROWS / BATCH;
    plan.clip_value = plan.clip_norm = plan.max_norm = INFINITY;
    for (int i = 0; i < LAYERS; i++) {
        fastmlp_layer *l = &layers[i];
        l->n_in = WIDTHS[i], l->n_out = WIDTHS[i + 1], l->weights_rate = l->biases_rate = 1;
        l->in_panels = panels(l->n_in), l->out_panels = panels(l->n_out);
        l->activation = FASTMLP_ACTIVATION_RELU, l->dropout_scale = 1;
        l->weights = l->effective = take(l->out_panels * (l->n_in + 1) * LANES);
        l->input_stride = stride(l->n_in), l->delta_stride = stride(l->n_out);
    }
    plan.block_size = taken, plan.average = take(taken), plan.gradient = take(plan.block_size);
    for (int i = 0; i < LAYERS; i++) {
        fastmlp_layer *l = &layers[i];
        l->inputs = take(BATCH * l->input_stride), l->deltas = take(BATCH * l->delta_stride);
        l->delta_panels = take(BATCH * l->out_panels * LANES);
    }
    plan.second_input = take(BATCH * layers[0].input_stride);
    plan.second_hidden = take(BATCH * layers[1].input_stride);
    plan.constants = take(LANES + stride(WIDTHS[LAYERS]));
    plan.group_size = (3 + 2 * layers[LAYERS - 1].out_panels * LANES) * LANES;
    plan.scratch_size = 2 * FASTMLP_CHUNK * LANES + FASTMLP_PACKED_SIZE;
    plan.groups = take(plan.group_size), plan.scratch = take(plan.scratch_size);
    plan.marks = take(FASTMLP_N_PARTS * layers[0].input_stride);
    plan.parts = take(FASTMLP_N_PARTS * BATCH * layers[0].delta_stride);

    float *floats = aligned_alloc(64, taken * sizeof(float)), *X = zeros(ROWS * WIDTHS[0], 4);
    int64_t classes[ROWS], order[ROWS], numbers[BATCH], lists = 2 * FASTMLP_N_PARTS;
    double row_losses[BATCH], losses[ROWS / BATCH];
    for (int64_t i = 0; i < taken; i++) floats[i] = 0;
    for (int64_t i = 0; i < ROWS * WIDTHS[0]; i++) X[i] = fmaxf(noise(i), 0);
    for (int64_t i = 0; i < ROWS; i++) classes[i] = i % 10, order[i] = i * 37 % ROWS;
    for (int64_t i = 0; i < BATCH; i++) numbers[i] = i;
    fastmlp_step_rates rates[ROWS / BATCH];
    for (int i = 0; i < ROWS / BATCH; i++) rates[i] = (fastmlp_step_rates){.rate = 0.125};
    fastmlp_memory_f32 memory = {&plan, layers, floats, row_losses, zeros(16, sizeof(fastmlp_panel_norm)),
        numbers, zeros(lists, sizeof(fastmlp_counts)), zeros(lists * fastmlp_list_size(WIDTHS[0]), 8),
        zeros(2 * BATCH * fastmlp_n_words(WIDTHS[0]), 8), zeros(fastmlp_lists_size(BATCH, FASTMLP_CHUNK), 8),
        zeros(FASTMLP_N_LISTS, sizeof(fastmlp_requests)), zeros(fastmlp_ahead_size(BATCH), 8)};
    fastmlp_call_f32 call = {.X = X, .classes = classes, .order = order, .rates = rates, .losses = losses};

    uint64_t hash = 0xCBF29CE484222325u, k = 1 << 20;
    for (int epoch = -1; epoch < 3; epoch++) { /* first the weights are drawn, last they are hashed */
        if (epoch == 0 || epoch == 1) {
            int64_t sync[FASTMLP_N_SYNC] = {0};
            if (!fastmlp_train_f32(0, 1, &memory, &call, sync)) return 1;
            plan.first_step += ROWS / BATCH;
            continue;
        }
        for (int i = 0; i < LAYERS; i++)
            for (int64_t row = 0; row <= WIDTHS[i]; row++)
                for (int64_t column = 0; column < WIDTHS[i + 1]; column++) {
                    int64_t panel = layers[i].weights + column / LANES * (WIDTHS[i] + 1) * LANES;
                    float *w = &floats[panel + row * LANES + column % LANES];
                    if (epoch < 0) *w = noise(k++) / 8;
                    else hash = (hash ^ *(uint32_t *)w) * 0x100000001B3u;
                }
    }
    printf("%.6f %016" PRIx64 "\n", losses[ROWS / BATCH - 1], hash);
    return 0;
}
