// SPDX-License-Identifier: Apache-2.0
/* What stands beside a file that the double takes for a virtual disk; sidecar.c says how it is written. */
#ifndef SIDECAR_H
#define SIDECAR_H

#include <stdint.h>
#include <stdio.h>

#include "layouts.h"

#define TEXT_SIZE 4096
#define FAILS_MAX 16

struct range {
    uint64_t offset;
    uint64_t length;
};

struct failure {
    char function[64];
    uint32_t code;
};

struct sidecar {
    char path[TEXT_SIZE];
    uint64_t size;
    uint32_t logical;
    uint32_t physical;
    uint32_t block;
    struct guid id;
    uint32_t kind;
    char parent[TEXT_SIZE];
    char image[TEXT_SIZE];
    int tracking;
    int newer;
    char latest[TEXT_SIZE];
    uint32_t page_ranges; /* 0: as many as fit */
    uint64_t page_bytes;  /* 0: all */
    struct failure fails[FAILS_MAX];
    int fail_count;
    uint32_t delay_ms;
    int deaf; /* a cancelled transfer goes on */
    int privilege; /* 1: attaching takes it switched on; 2: the account does not hold it */
    char lies[64]; /* what the double answers wrong: text, room, count, short */
    int real; /* the handle is one of kernel32.dll, on the image */
};

/* 0, or the code of Windows that an open answers with */
uint32_t sidecar_load(const char *path, struct sidecar *out);
/* Ranges of a tracking id in the order of the file, in memory to be freed; -1: nobody knows the id. */
int sidecar_changes(const struct sidecar *disk, const char *id, struct range **out);
/* Writes the line of `key` anew. */
int sidecar_set(const struct sidecar *disk, const char *key, const char *value);
int sidecar_create(const struct sidecar *disk);
uint32_t sidecar_failure(const struct sidecar *disk, const char *function);

FILE *open_file(const char *path, const char *mode);
int file_exists(const char *path);
void remove_file(const char *path);
int seek_to(FILE *file, uint64_t offset);
void guid_text(const struct guid *id, char out[40]);
/* Appends a line to the file `path` + `suffix`; when it must be there already, only then. */
void append_line(const char *path, const char *suffix, const char *line, int must_exist);

#endif
