// SPDX-License-Identifier: Apache-2.0
// A program to be run as a service, which does one thing: what its first word says. With RELEASE it stands for a whole
// product of that release, and ends at once when it is the release "broken".

#define WIN32_LEAN_AND_MEAN
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>

/** Reads its input to the end. */
static void wait_for_end(void) {
    char bytes[256];
    DWORD count;
    while (ReadFile(GetStdHandle(STD_INPUT_HANDLE), bytes, sizeof bytes, &count, NULL) && count > 0) {
    }
}

int main(int count, char **words) {
    const char *mode = count > 1 ? words[1] : "";
    setvbuf(stdout, NULL, _IONBF, 0);
#ifdef RELEASE
    if (strcmp(RELEASE, "broken") == 0) return 7;
    fprintf(stderr, "release %s\n", RELEASE);
    mode = strcmp(mode, "receiver") == 0 || strcmp(mode, "daemon") == 0 ? "serve" : "";
#endif
    if (strcmp(mode, "serve") == 0) {
        fprintf(stderr, "a warning before\n");
        // in one piece, between which nothing of stderr comes
        setvbuf(stdout, NULL, _IOFBF, 8192);
        for (int index = 2; index < count; index++) printf("word <%s>\n", words[index]);
        printf("listening\n");
        fflush(stdout);
        wait_for_end();
        printf("ending well\n");
        return 0;
    }
    if (strcmp(mode, "crash") == 0) { // works, and is gone after a moment
        printf("listening\n");
        Sleep(1500);
        return atoi(words[2]);
    }
    if (strcmp(mode, "refuse") == 0) { // does not come to work
        fprintf(stderr, "E_KEY_FILE: no key\n");
        return atoi(words[2]);
    }
    if (strcmp(mode, "deaf") == 0) {
        printf("listening\n");
        Sleep(INFINITE);
    }
    if (strcmp(mode, "slow") == 0) {
        Sleep(2500);
        printf("listening\n");
        wait_for_end();
        return 0;
    }
    if (strcmp(mode, "later") == 0) { // as noisy, when a file has gone
        printf("listening\n");
        while (GetFileAttributesA(words[2]) != INVALID_FILE_ATTRIBUTES) Sleep(50);
    }
    if (strcmp(mode, "noisy") == 0 || strcmp(mode, "later") == 0) {
        for (int line = 0; line < 2000; line++) {
            char text[64];
            DWORD done;
            int length = snprintf(text, sizeof text, "line %04d of a program that says much\n", line);
            WriteFile(GetStdHandle(STD_OUTPUT_HANDLE), text, (DWORD)length, &done, NULL);
        }
        wait_for_end();
        return 0;
    }
    if (strcmp(mode, "hold") == 0) { // keeps a file from being renamed or removed
        HANDLE file = CreateFileA(words[2], GENERIC_READ, FILE_SHARE_READ, NULL, OPEN_EXISTING, 0, NULL);
        if (file == INVALID_HANDLE_VALUE) return 1;
        printf("holding\n");
        wait_for_end();
        return 0;
    }
    return 99;
}
