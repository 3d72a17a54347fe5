/* What zero-copy sending is worth where this runs: 1 MiB pieces over one TCP connection on loopback, sent with
 * write(), with io_uring's SEND and with its SEND_ZC, in alternating slices. Prints the median rate of each, CPU time
 * of the sending thread for each gigabyte, and how many of the zero-copy sends the kernel copied after all.
 *
 *   cc -O2 -o send_zc benches/scripts/send_zc.c && ./send_zc [PIECE_BYTES] [SLICES]
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum mode { WRITE, SEND, SEND_ZC, MODES };
static const char *const names[MODES] = {"write", "SEND", "SEND_ZC"};

struct ring {
    int fd;
    uint32_t *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
    struct io_uring_sqe *sqes;
    struct io_uring_cqe *cqes;
};

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void *map(int fd, size_t bytes, off_t offset) {
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, offset);
    if (at == MAP_FAILED) fail("mmap");
    return at;
}

static void open_ring(struct ring *ring) {
    struct io_uring_params p = {0};
    ring->fd = (int)syscall(__NR_io_uring_setup, 8, &p);
    if (ring->fd < 0) fail("io_uring_setup");
    char *sq = map(ring->fd, p.sq_off.array + p.sq_entries * sizeof(uint32_t), IORING_OFF_SQ_RING);
    char *cq = map(ring->fd, p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe), IORING_OFF_CQ_RING);
    ring->sqes = map(ring->fd, p.sq_entries * sizeof(struct io_uring_sqe), IORING_OFF_SQES);
    ring->sq_tail = (uint32_t *)(sq + p.sq_off.tail);
    ring->sq_mask = (uint32_t *)(sq + p.sq_off.ring_mask);
    ring->sq_array = (uint32_t *)(sq + p.sq_off.array);
    ring->cq_head = (uint32_t *)(cq + p.cq_off.head);
    ring->cq_tail = (uint32_t *)(cq + p.cq_off.tail);
    ring->cq_mask = (uint32_t *)(cq + p.cq_off.ring_mask);
    ring->cqes = (struct io_uring_cqe *)(cq + p.cq_off.cqes);
}

/* Sends all of it; counts notifications that say the bytes were copied. */
static void ring_send(struct ring *ring, int socket, char *bytes, size_t length, int zero_copy, long *copied) {
    size_t sent = 0;
    while (sent < length) {
        uint32_t tail = *ring->sq_tail, at = tail & *ring->sq_mask;
        struct io_uring_sqe *sqe = &ring->sqes[at];
        memset(sqe, 0, sizeof *sqe);
        sqe->opcode = zero_copy ? IORING_OP_SEND_ZC : IORING_OP_SEND;
        sqe->fd = socket;
        sqe->addr = (uintptr_t)(bytes + sent);
        sqe->len = (uint32_t)(length - sent);
        sqe->msg_flags = MSG_WAITALL;
        if (zero_copy) {
            sqe->ioprio = IORING_SEND_ZC_REPORT_USAGE | IORING_RECVSEND_FIXED_BUF;
            sqe->buf_index = 0;
        }
        ring->sq_array[at] = at;
        __atomic_store_n(ring->sq_tail, tail + 1, __ATOMIC_RELEASE);
        unsigned submit = 1;
        int waiting = 1;
        while (waiting > 0) {
            if (syscall(__NR_io_uring_enter, ring->fd, submit, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0) fail("enter");
            submit = 0;
            uint32_t head = *ring->cq_head;
            while (head != __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE)) {
                struct io_uring_cqe *cqe = &ring->cqes[head++ & *ring->cq_mask];
                if (cqe->flags & IORING_CQE_F_NOTIF) {
                    *copied += (uint32_t)cqe->res >> 31;
                } else {
                    if (cqe->res <= 0) {
                        fprintf(stderr, "send: %s\n", strerror(-cqe->res));
                        exit(1);
                    }
                    sent += (size_t)cqe->res;
                    waiting += (cqe->flags & IORING_CQE_F_MORE) != 0;
                }
                waiting--;
            }
            __atomic_store_n(ring->cq_head, head, __ATOMIC_RELEASE);
        }
    }
}

static void *drain(void *argument) {
    int socket = *(int *)argument;
    size_t length = 1 << 20;
    char *into = malloc(length);
    while (read(socket, into, length) > 0) {
    }
    free(into);
    return NULL;
}

static double seconds(clockid_t clock) {
    struct timespec at;
    clock_gettime(clock, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int count, char **arguments) {
    size_t piece = count > 1 ? strtoul(arguments[1], NULL, 10) : 1 << 20;
    int slices = count > 2 ? atoi(arguments[2]) : 10;
    int listener = socket(AF_INET, SOCK_STREAM, 0), sender = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 1) ||
        getsockname(listener, (struct sockaddr *)&at, &length) || connect(sender, (struct sockaddr *)&at, length))
        fail("socket");
    int receiver = accept(listener, NULL, NULL);
    pthread_t thread;
    if (receiver < 0 || pthread_create(&thread, NULL, drain, &receiver)) fail("accept");
    char *bytes = mmap(NULL, piece, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    memset(bytes, 'r', piece);
    struct ring ring;
    open_ring(&ring);
    struct iovec whole = {bytes, piece};
    if (syscall(__NR_io_uring_register, ring.fd, IORING_REGISTER_BUFFERS, &whole, 1) < 0) fail("register buffers");
    double *rates[MODES], *cpu[MODES];
    long copied = 0, sends = 0;
    for (int mode = 0; mode < MODES; mode++) {
        rates[mode] = calloc((size_t)slices, sizeof(double));
        cpu[mode] = calloc((size_t)slices, sizeof(double));
    }
    for (int slice = 0; slice < slices; slice++)
        for (int mode = 0; mode < MODES; mode++) {
            double began = seconds(CLOCK_MONOTONIC), busy = seconds(CLOCK_THREAD_CPUTIME_ID), total = 0;
            while (seconds(CLOCK_MONOTONIC) - began < 0.3) {
                if (mode == WRITE) {
                    for (size_t sent = 0; sent < piece;) {
                        ssize_t now = write(sender, bytes + sent, piece - sent);
                        if (now <= 0) fail("write");
                        sent += (size_t)now;
                    }
                } else {
                    ring_send(&ring, sender, bytes, piece, mode == SEND_ZC, &copied);
                    sends += mode == SEND_ZC;
                }
                total += (double)piece;
            }
            rates[mode][slice] = total / (seconds(CLOCK_MONOTONIC) - began) / 1e6;
            cpu[mode][slice] = (seconds(CLOCK_THREAD_CPUTIME_ID) - busy) / total * 1e9;
        }
    for (int mode = 0; mode < MODES; mode++) {
        qsort(rates[mode], (size_t)slices, sizeof(double), ascending);
        qsort(cpu[mode], (size_t)slices, sizeof(double), ascending);
        printf("%-8s %6.0f MB/s (%.0f-%.0f), sender %.3f CPU s per GB\n", names[mode], rates[mode][slices / 2],
               rates[mode][0], rates[mode][slices - 1], cpu[mode][slices / 2]);
    }
    printf("zero-copy sends that the kernel copied: %ld of %ld\n", copied, sends);
    return 0;
}
