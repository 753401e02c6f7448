// SPDX-License-Identifier: Apache-2.0
/* Sidecars: X.double beside the file X, in lines of a key and its value (docs/testing.md):

     size BYTES · sectors LOGICAL PHYSICAL · block BYTES · id GUID · kind 2|3|4 · parent PATH · image PATH
     tracking ENABLED NEWER ID|-      changes ID [OFFSET LENGTH]…      page RANGES [BYTES]
     fail FUNCTION CODE               delay MS [deaf]                  handle real
     privilege off|none
     lies text|room|count|short       a text without an end, a buffer that cannot be, more ranges than asked for, less
                                      moved than it says

   A disk that the double makes itself gets the lines of X.script, when there are any. */
#include "sidecar.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#ifdef _WIN32
#include <windows.h>
#else
#include <unistd.h>
#endif

#define FILE_NOT_FOUND 2u
#define NOT_A_VIRTUAL_DISK 0xC03A0015u
#define LINE_SIZE 65536

FILE *open_file(const char *path, const char *mode) {
#ifdef _WIN32
    wchar_t wide[TEXT_SIZE], wide_mode[8];
    MultiByteToWideChar(CP_UTF8, 0, path, -1, wide, TEXT_SIZE);
    MultiByteToWideChar(CP_UTF8, 0, mode, -1, wide_mode, 8);
    return _wfopen(wide, wide_mode);
#else
    return fopen(path, mode);
#endif
}

int file_exists(const char *path) {
    FILE *file = open_file(path, "rb");
    if (file) fclose(file);
    return file != NULL;
}

void remove_file(const char *path) {
#ifdef _WIN32
    wchar_t wide[TEXT_SIZE];
    MultiByteToWideChar(CP_UTF8, 0, path, -1, wide, TEXT_SIZE);
    _wremove(wide);
#else
    unlink(path);
#endif
}

int seek_to(FILE *file, uint64_t offset) {
#ifdef _WIN32
    return _fseeki64(file, (int64_t)offset, SEEK_SET);
#else
    return fseeko(file, (off_t)offset, SEEK_SET);
#endif
}

void append_line(const char *path, const char *suffix, const char *line, int must_exist) {
    char name[TEXT_SIZE + 32];
    snprintf(name, sizeof name, "%s%s", path, suffix);
    if (must_exist && !file_exists(name)) return;
    FILE *file = open_file(name, "ab");
    if (!file) return;
    fprintf(file, "%s\n", line);
    fclose(file);
}

static int parse_guid(const char *text, struct guid *out) {
    unsigned part[11];
    if (sscanf(text, "%8x-%4x-%4x-%2x%2x-%2x%2x%2x%2x%2x%2x", &part[0], &part[1], &part[2], &part[3],
               &part[4], &part[5], &part[6], &part[7], &part[8], &part[9], &part[10]) != 11)
        return -1;
    out->Data1 = part[0];
    out->Data2 = (uint16_t)part[1];
    out->Data3 = (uint16_t)part[2];
    for (int i = 0; i < 8; i++) out->Data4[i] = (uint8_t)part[3 + i];
    return 0;
}

void guid_text(const struct guid *id, char out[40]) {
    const uint8_t *d = id->Data4;
    snprintf(out, 40, "%08x-%04x-%04x-%02x%02x-%02x%02x%02x%02x%02x%02x", id->Data1, id->Data2,
             id->Data3, d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]);
}

/* `name` beside the disk, unless it is absolute. */
static void beside(const char *disk, const char *name, char out[TEXT_SIZE]) {
    const char *end = disk;
    for (const char *at = disk; *at; at++)
        if (*at == '/' || *at == '\\') end = at + 1;
    int is_absolute = name[0] == '/' || name[0] == '\\' || (name[0] && name[1] == ':');
    if (is_absolute) snprintf(out, TEXT_SIZE, "%s", name);
    else snprintf(out, TEXT_SIZE, "%.*s%s", (int)(end - disk), disk, name);
}

static void take_line(struct sidecar *disk, char *line) {
    char text[TEXT_SIZE] = "", word[16] = "";
    line[strcspn(line, "\r\n")] = 0;
    if (sscanf(line, "size %" SCNu64, &disk->size) == 1) return;
    if (sscanf(line, "sectors %u %u", &disk->logical, &disk->physical) == 2) return;
    if (sscanf(line, "block %u", &disk->block) == 1) return;
    if (sscanf(line, "kind %u", &disk->kind) == 1) return;
    if (strcmp(line, "privilege off") == 0) disk->privilege = 1;
    if (strcmp(line, "privilege none") == 0) disk->privilege = 2;
    if (sscanf(line, "lies %63s", disk->lies) == 1) return;
    if (sscanf(line, "page %u %" SCNu64, &disk->page_ranges, &disk->page_bytes) >= 1) return;
    if (sscanf(line, "delay %u %15s", &disk->delay_ms, word) >= 1) {
        disk->deaf = strcmp(word, "deaf") == 0;
        return;
    }
    if (sscanf(line, "id %4095s", text) == 1) {
        parse_guid(text, &disk->id);
    } else if (strncmp(line, "parent ", 7) == 0) {
        beside(disk->path, line + 7, disk->parent);
    } else if (strncmp(line, "image ", 6) == 0) {
        beside(disk->path, line + 6, disk->image);
    } else if (sscanf(line, "tracking %d %d %4095s", &disk->tracking, &disk->newer, text) == 3) {
        strcpy(disk->latest, strcmp(text, "-") == 0 ? "" : text);
    } else if (strncmp(line, "fail ", 5) == 0 && disk->fail_count < FAILS_MAX) {
        struct failure *fail = &disk->fails[disk->fail_count];
        if (sscanf(line, "fail %63s %4095s", fail->function, text) == 2) {
            fail->code = (uint32_t)strtoul(text, NULL, 0);
            disk->fail_count++;
        }
    } else if (strcmp(line, "handle real") == 0) {
        disk->real = 1;
    }
}

static FILE *open_sidecar(const char *path, const char *mode) {
    char name[TEXT_SIZE + 32];
    snprintf(name, sizeof name, "%s.double", path);
    return open_file(name, mode);
}

uint32_t sidecar_load(const char *path, struct sidecar *out) {
    memset(out, 0, sizeof *out);
    snprintf(out->path, sizeof out->path, "%s", path);
    snprintf(out->image, sizeof out->image, "%.4000s.image", path);
    out->logical = 512;
    out->physical = 4096;
    out->block = 32 << 20;
    out->kind = 3;
    if (!file_exists(path)) return FILE_NOT_FOUND;
    FILE *file = open_sidecar(path, "rb");
    if (!file) return NOT_A_VIRTUAL_DISK;
    char *line = malloc(LINE_SIZE);
    while (line && fgets(line, LINE_SIZE, file)) take_line(out, line);
    free(line);
    fclose(file);
    return out->size ? 0 : NOT_A_VIRTUAL_DISK;
}

int sidecar_changes(const struct sidecar *disk, const char *id, struct range **out) {
    FILE *file = open_sidecar(disk->path, "rb");
    char *line = malloc(LINE_SIZE), *rest;
    int count = 0, room = 0, is_known = 0;
    *out = NULL;
    while (file && line && fgets(line, LINE_SIZE, file)) {
        line[strcspn(line, "\r\n")] = 0;
        size_t length = strlen(id);
        if (strncmp(line, "changes ", 8) != 0 || strncmp(line + 8, id, length) != 0) continue;
        if (line[8 + length] != ' ' && line[8 + length] != 0) continue;
        is_known = 1;
        for (char *at = line + 8 + length;;) {
            uint64_t offset = strtoull(at, &rest, 0);
            if (rest == at) break;
            if (count == room) *out = realloc(*out, sizeof **out * (size_t)(room = room * 2 + 64));
            (*out)[count].offset = offset;
            (*out)[count++].length = strtoull(rest, &at, 0);
        }
    }
    if (file) fclose(file);
    free(line);
    return is_known ? count : -1;
}

int sidecar_set(const struct sidecar *disk, const char *key, const char *value) {
    FILE *file = open_sidecar(disk->path, "rb");
    if (!file) return -1;
    char *text = calloc(1, 1 << 20), *line = malloc(LINE_SIZE);
    size_t used = 0, length = strlen(key);
    while (fgets(line, LINE_SIZE, file) && used < (1 << 20) - LINE_SIZE) {
        if (strncmp(line, key, length) == 0 && line[length] == ' ') continue;
        used += (size_t)sprintf(text + used, "%s", line);
    }
    fclose(file);
    file = open_sidecar(disk->path, "wb");
    if (file) {
        fwrite(text, 1, used, file);
        if (used > 0 && text[used - 1] != '\n') fputc('\n', file);
        fprintf(file, "%s %s\n", key, value);
        fclose(file);
    }
    free(text);
    free(line);
    return file ? 0 : -1;
}

int sidecar_create(const struct sidecar *disk) {
    char id[40];
    FILE *file = open_file(disk->path, "wb");
    if (!file) return -1;
    fclose(file);
    file = open_sidecar(disk->path, "wb");
    if (!file) return -1;
    guid_text(&disk->id, id);
    fprintf(file, "size %" PRIu64 "\nsectors %u %u\nblock %u\nid %s\nkind %u\ntracking 0 0 -\n",
            disk->size, disk->logical, disk->physical, disk->block, id, disk->kind);
    if (disk->parent[0]) fprintf(file, "parent %s\n", disk->parent);
    char name[TEXT_SIZE + 32];
    snprintf(name, sizeof name, "%s.script", disk->path);
    FILE *script = open_file(name, "rb");
    for (int byte; script && (byte = fgetc(script)) != EOF;) fputc(byte, file);
    if (script) fclose(script);
    fclose(file);
    return 0;
}

uint32_t sidecar_failure(const struct sidecar *disk, const char *function) {
    for (int i = 0; i < disk->fail_count; i++)
        if (strcmp(disk->fails[i].function, function) == 0) return disk->fails[i].code;
    return 0;
}
