// SPDX-License-Identifier: Apache-2.0
// A backend that does what a file beside it says (its own path and `.script`), a step in each line, and
// writes what it was sent into a file of the same name and `.log`. Steps:
//   take            reads one packet               until TEXT      reads packets up to `F` or `C TEXT`
//   say L TEXT      a packet with letter L          line TEXT       a C packet with its newline
//   data COUNT C    a D packet of COUNT times C     raw HEX         bytes as they are
//   stderr TEXT     says it there                  exit CODE
//   wait            until SIGUSR1 or the end of the input; answers nothing
//   pause           reads nothing more             stubborn        hears neither
//                                                                  a signal nor the end of its input

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef _WIN32
#include <fcntl.h>
#include <io.h>
#include <windows.h>
#else
#include <fcntl.h>
#include <unistd.h>
#endif

static FILE *logged;

static void note(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(logged, format, arguments);
    va_end(arguments);
    fputc('\n', logged);
    fflush(logged);
}

static int read_all(char *buffer, size_t size) {
    size_t got = 0;
    while (got < size) {
        int count = (int)read(0, buffer + got, (unsigned)(size - got));
        if (count <= 0) return 0;
        got += (size_t)count;
    }
    return 1;
}

static void write_all(const char *buffer, size_t size) {
    while (size > 0) {
        int count = (int)write(1, buffer, (unsigned)size);
        if (count <= 0) {
            note("broken pipe");
            exit(9);
        }
        buffer += count;
        size -= (size_t)count;
    }
}

/** One packet into the log; exits at the end of the input. */
static const char *take(char *letter) {
    static char text[1000000];
    char header[9] = {0};
    if (!read_all(header, 8)) {
        note("end of input");
        exit(0);
    }
    size_t length = (size_t)atoi(header + 1);
    if (!read_all(text, length)) exit(3);
    text[length] = 0;
    while (length > 0 && text[length - 1] == '\n') text[--length] = 0;
    if (header[0] == 'D' && length > 64) note("D %u of %c", (unsigned)length, text[0]);
    else note("%c %s", header[0], text);
    *letter = header[0];
    return text;
}

static void packet(char letter, const char *bytes, size_t size) {
    char header[16];
    snprintf(header, sizeof header, "%c%06u\n", letter, (unsigned)size);
    write_all(header, 8);
    write_all(bytes, size);
}

static void until(const char *wanted) {
    for (;;) {
        char letter = 0;
        const char *text = take(&letter);
        if (wanted[0] == 0 ? letter == 'F' : letter == 'C' && strcmp(text, wanted) == 0) return;
    }
}

static void send_fill(const char *arguments) {
    unsigned count = 0;
    char fill = 0;
    sscanf(arguments, "%u %c", &count, &fill);
    char *bytes = malloc(count + 1);
    memset(bytes, fill, count);
    packet('D', bytes, count);
    free(bytes);
}

static void send_raw(const char *hex) {
    for (unsigned byte; sscanf(hex, "%2x", &byte) == 1; hex += 2) {
        char one = (char)byte;
        write_all(&one, 1);
        if (hex[1] == 0) break;
    }
}

#ifndef _WIN32
static void on_signal(int number) {
    (void)number;
    ssize_t done = write(fileno(logged), "SIGUSR1\n", 8);
    (void)done;
    _exit(0);
}
#endif

static void sleep_for_ever(void) {
    for (;;) {
#ifdef _WIN32
        Sleep(1000);
#else
        pause();
#endif
    }
}

static void stubborn(void) {
#ifndef _WIN32
    signal(SIGUSR1, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
#endif
    note("stubborn");
    sleep_for_ever();
}

static void wait_for_end(void) {
    char byte;
    while (read(0, &byte, 1) > 0) continue;
    note("end of input");
    exit(0);
}

static const char *rest_after(const char *step, const char *word) {
    size_t length = strlen(word);
    if (strncmp(step, word, length) != 0 || (step[length] != ' ' && step[length] != 0)) return NULL;
    return step[length] == 0 ? step + length : step + length + 1;
}

static void run(const char *step) {
    const char *rest;
    char letter;
    if ((rest = rest_after(step, "take")) != NULL) take(&letter);
    else if ((rest = rest_after(step, "until")) != NULL) until(rest);
    else if ((rest = rest_after(step, "say")) != NULL) packet(rest[0], rest + 2, rest[1] == 0 ? 0 : strlen(rest + 2));
    else if ((rest = rest_after(step, "data")) != NULL) send_fill(rest);
    else if ((rest = rest_after(step, "raw")) != NULL) send_raw(rest);
    else if ((rest = rest_after(step, "stderr")) != NULL) fprintf(stderr, "%s\n", rest);
    else if ((rest = rest_after(step, "exit")) != NULL) exit(atoi(rest));
    else if ((rest = rest_after(step, "wait")) != NULL) wait_for_end();
    else if ((rest = rest_after(step, "pause")) != NULL) sleep_for_ever();
    else if ((rest = rest_after(step, "stubborn")) != NULL) stubborn();
    else if ((rest = rest_after(step, "line")) != NULL) {
        char text[20000];
        int length = snprintf(text, sizeof text, "%s\n", rest);
        packet('C', text, (size_t)length);
    } else {
        note("no such step: %s", step);
        exit(2);
    }
}

int main(int count, char **arguments) {
    char path[4096], name[4200], step[20000];
    (void)count;
#ifdef _WIN32
    _setmode(0, _O_BINARY);
    _setmode(1, _O_BINARY);
    GetModuleFileNameA(NULL, path, sizeof path);
    (void)arguments;
#else
    snprintf(path, sizeof path, "%s", arguments[0]);
    signal(SIGUSR1, on_signal);
#endif
#ifndef _WIN32
    int inherited = 0;
    for (int end = 3; end < 1024; end++) inherited += fcntl(end, F_GETFD) >= 0;
#endif
    snprintf(name, sizeof name, "%s.log", path);
    logged = fopen(name, "a");
    snprintf(name, sizeof name, "%s.script", path);
    FILE *script = fopen(name, "r");
    if (logged == NULL || script == NULL) return 2;
#ifndef _WIN32
    note("inherits %d", inherited);
#endif
    while (fgets(step, sizeof step, script) != NULL) {
        step[strcspn(step, "\r\n")] = 0;
        if (step[0] != 0) run(step);
    }
    return 0;
}
