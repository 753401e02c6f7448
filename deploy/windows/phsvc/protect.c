// SPDX-License-Identifier: Apache-2.0
// Keeps users of the machine away from folders of the product. Every user may make folders in %ProgramData% and on most
// drives: one who was there before us would own ours, with all that he laid into it.

#include "phsvc.h"
#include <aclapi.h>
#include <sddl.h>
#include <stdio.h>
#include <stdlib.h>
#include <wchar.h>

#define PATH_CHARS 32767
#define RECEIVER L"PodHeitorReceiver"
#define AGENT L"PodHeitorAgent"

/** For the system and administrators everything, also in what is made inside; programs are read by all users. */
#define OWN_LIST L"D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)"
#define PROGRAMS_LIST OWN_LIST L"(A;OICI;0x1200a9;;;BU)"
/** Nothing of its own: what comes down from the folder above. */
#define NO_LIST L"D:"

/** Write, append, write attributes' data, delete a child, delete, change the list or the owner; all, and all writing. */
#define CHANGE (0x2 | 0x4 | 0x10 | 0x40 | DELETE | WRITE_DAC | WRITE_OWNER | GENERIC_ALL | GENERIC_WRITE)

#define TRUSTED_MAX 8
static PSID trusted[TRUSTED_MAX];
static int trusted_count;
static PSID administrators;
/** A service of ours is there: what lies in the folder is the product's, whatever account it belongs to. */
static BOOL is_installed;
static wchar_t own_list[1024] = OWN_LIST;

static void trust(PSID account) {
    if (account != NULL && trusted_count < TRUSTED_MAX) trusted[trusted_count++] = account;
}

static PSID account_by_text(const wchar_t *text) {
    PSID account = NULL;
    return ConvertStringSidToSidW(text, &account) ? account : NULL;
}

/** Where a policy says so, an administrator's files are his own and not those of all administrators. */
static PSID account_of_process(void) {
    static BYTE bytes[SECURITY_MAX_SID_SIZE + sizeof(TOKEN_USER)];
    HANDLE token;
    DWORD size;
    if (!OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &token)) return NULL;
    BOOL is_known = GetTokenInformation(token, TokenUser, bytes, sizeof bytes, &size);
    CloseHandle(token);
    return is_known ? ((TOKEN_USER *)bytes)->User.Sid : NULL;
}

static PSID account_by_name(const wchar_t *name) {
    wchar_t domain[256];
    DWORD size = SECURITY_MAX_SID_SIZE, chars = 256;
    SID_NAME_USE use;
    if (wcsncmp(name, L".\\", 2) == 0) name += 2; // how services write an account of this machine
    PSID account = calloc(1, size);
    if (account != NULL && LookupAccountNameW(NULL, name, account, &size, domain, &chars, &use)) return account;
    free(account);
    return NULL;
}

/** An administrator may have given a service another account, whose data lies in our folder. */
static PSID account_of_service(const wchar_t *name) {
    DWORD needed = 0;
    PSID account = NULL;
    SC_HANDLE manager = OpenSCManagerW(NULL, NULL, SC_MANAGER_CONNECT);
    SC_HANDLE service = manager == NULL ? NULL : OpenServiceW(manager, name, SERVICE_QUERY_CONFIG);
    if (service != NULL) QueryServiceConfigW(service, NULL, 0, &needed);
    is_installed = is_installed || service != NULL;
    QUERY_SERVICE_CONFIGW *config = needed == 0 ? NULL : calloc(1, needed);
    if (config != NULL && QueryServiceConfigW(service, config, needed, &needed) &&
        config->lpServiceStartName != NULL)
        account = account_by_name(config->lpServiceStartName);
    free(config);
    if (service != NULL) CloseServiceHandle(service);
    if (manager != NULL) CloseServiceHandle(manager);
    return account;
}

static BOOL is_trusted(PSID account) {
    for (int index = 0; index < trusted_count; index++)
        if (EqualSid(account, trusted[index])) return TRUE;
    return FALSE;
}

/** A service with an account of its own reads its configuration and keys by it, and writes its data. */
static void admit_service(const wchar_t *name) {
    wchar_t *text = NULL;
    PSID account = account_of_service(name);
    if (account == NULL || is_trusted(account) || !ConvertSidToStringSidW(account, &text)) return;
    size_t used = wcslen(own_list);
    swprintf(own_list + used, sizeof own_list / sizeof *own_list - used, L"(A;OICI;FA;;;%ls)", text);
    LocalFree(text);
    trust(account);
}

static void know_accounts(void) {
    administrators = account_by_text(L"S-1-5-32-544");
    trust(administrators);
    trust(account_by_text(L"S-1-5-18"));
    // the owner of what Windows brings
    trust(account_by_text(L"S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"));
    trust(account_of_process());
}

static int failed(const wchar_t *path, const char *what, DWORD error) {
    fprintf(stderr, "phsvc: %ls: %s: error %lu\n", path, what, error);
    return 1;
}

/** What an administrator may do to files of others, once he says that he wants to. */
static void take_privileges(void) {
    const wchar_t *names[] = {L"SeTakeOwnershipPrivilege", L"SeRestorePrivilege", L"SeBackupPrivilege"};
    HANDLE token;
    if (!OpenProcessToken(GetCurrentProcess(), TOKEN_ADJUST_PRIVILEGES, &token)) return;
    for (int index = 0; index < 3; index++) {
        TOKEN_PRIVILEGES wanted = {.PrivilegeCount = 1};
        wanted.Privileges[0].Attributes = SE_PRIVILEGE_ENABLED;
        if (LookupPrivilegeValueW(NULL, names[index], &wanted.Privileges[0].Luid))
            AdjustTokenPrivileges(token, FALSE, &wanted, 0, NULL, NULL);
    }
    CloseHandle(token);
}

/** Gives it to the administrators, with this access list. Whoever owns it could change the list: the owner goes first. */
static DWORD take_over(wchar_t *path, const wchar_t *list) {
    PSECURITY_DESCRIPTOR descriptor = NULL;
    PACL entries = NULL;
    BOOL is_there, is_default;
    DWORD failure = SetNamedSecurityInfoW(path, SE_FILE_OBJECT, OWNER_SECURITY_INFORMATION, administrators, NULL,
                                          NULL, NULL);
    if (failure != ERROR_SUCCESS) return failure;
    if (!ConvertStringSecurityDescriptorToSecurityDescriptorW(list, SDDL_REVISION_1, &descriptor, NULL) ||
        !GetSecurityDescriptorDacl(descriptor, &is_there, &entries, &is_default)) {
        failure = GetLastError();
    } else {
        BOOL is_own = wcscmp(list, NO_LIST) != 0;
        SECURITY_INFORMATION what =
            DACL_SECURITY_INFORMATION |
            (is_own ? PROTECTED_DACL_SECURITY_INFORMATION : UNPROTECTED_DACL_SECURITY_INFORMATION);
        failure = SetNamedSecurityInfoW(path, SE_FILE_OBJECT, what, NULL, NULL, entries, NULL);
        // that call brings the list down to what is inside; under Wine it also mixes in the list of the folder above
        if (failure == ERROR_SUCCESS && is_own && !SetFileSecurityW(path, what, descriptor))
            failure = GetLastError();
    }
    LocalFree(descriptor);
    return failure;
}

static BOOL is_gone(DWORD failure) {
    return failure == ERROR_FILE_NOT_FOUND || failure == ERROR_PATH_NOT_FOUND;
}

enum owner { OURS, OF_ANOTHER, UNKNOWN, GONE };

static enum owner owner_of(wchar_t *path) {
    PSECURITY_DESCRIPTOR descriptor = NULL;
    PSID owner = NULL;
    DWORD failure = GetNamedSecurityInfoW(path, SE_FILE_OBJECT, OWNER_SECURITY_INFORMATION, &owner, NULL, NULL, NULL,
                                          &descriptor);
    enum owner found = is_gone(failure)                              ? GONE
                       : failure != ERROR_SUCCESS || owner == NULL ? UNKNOWN
                       : is_trusted(owner)                           ? OURS
                                                                     : OF_ANOTHER;
    LocalFree(descriptor);
    return found;
}

/** Under another name nobody uses it, and an administrator can look at it. */
static int set_aside(const wchar_t *path) {
    wchar_t *aside = calloc(PATH_CHARS, sizeof *aside);
    if (aside == NULL) return failed(path, "there is no memory", ERROR_NOT_ENOUGH_MEMORY);
    BOOL is_done = FALSE;
    for (int number = 1; !is_done && number < 1000; number++) {
        if (swprintf(aside, PATH_CHARS, L"%ls.set-aside-%d", path, number) < 0) break;
        is_done = MoveFileExW(path, aside, 0);
        DWORD error = GetLastError();
        if (!is_done && error != ERROR_ALREADY_EXISTS && error != ERROR_FILE_EXISTS) break;
    }
    DWORD failure = GetLastError();
    int code = is_done ? 0 : failed(path, "it belongs to another account and cannot be set aside", failure);
    if (is_done) {
        printf("NOTE: %ls belonged to another account and is not used: it is now %ls\n", path, aside);
        take_over(aside, own_list);
    }
    free(aside);
    return code;
}

/**
 * Where something lies. DATA are store, state and logs: lists of their own are those that the product or an administrator
 * gave them, and nothing in them is ever renamed, as a store with a hole would be served as if it were whole.
 */
enum place { PROGRAM_FILES, ROOT, KEYS, DATA };

static enum place place_in(enum place place, const WIN32_FIND_DATAW *found) {
    if (place != ROOT || (found->dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY) == 0) return place;
    return _wcsicmp(found->cFileName, L"keys") == 0 ? KEYS : DATA;
}

/** LOOKING finds what has to be refused, before CHANGING touches anything; it lets pass what it may not see yet. */
enum pass { LOOKING, CHANGING };

static int of_another(wchar_t *path, enum place place, enum pass pass) {
    if ((place == ROOT || place == KEYS) && !is_installed) return pass == LOOKING ? 0 : set_aside(path);
    return failed(path, "it belongs to another account; look at it, then remove it or take it over (icacls /setowner)",
                  ERROR_INVALID_OWNER);
}

static int clear(const wchar_t *folder, enum place place, enum pass pass);

/** One thing in a folder. What vanishes meanwhile, as files of a service at work do, is nobody's. */
static int clear_one(wchar_t *path, const WIN32_FIND_DATAW *found, enum place place, enum pass pass) {
    if ((found->dwFileAttributes & FILE_ATTRIBUTE_REPARSE_POINT) != 0) {
        return failed(path, "it is a link; remove it, and name the place that it leads to", ERROR_REPARSE_TAG_INVALID);
    }
    enum owner owner = owner_of(path);
    if (owner == GONE || (owner == UNKNOWN && pass == LOOKING)) return 0;
    if (owner != OURS) return of_another(path, place, pass);
    if (pass == CHANGING && place != DATA) {
        DWORD failure = take_over(path, NO_LIST);
        if (is_gone(failure)) return 0;
        if (failure != ERROR_SUCCESS) return failed(path, "it cannot be kept from others", failure);
    }
    return (found->dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY) != 0 ? clear(path, place, pass) : 0;
}

/** Of a folder that is ours by now: what others laid into it, and the lists of what is in it. */
static int clear(const wchar_t *folder, enum place place, enum pass pass) {
    WIN32_FIND_DATAW found;
    int code = 0;
    wchar_t *path = calloc(PATH_CHARS, sizeof *path);
    if (path == NULL || swprintf(path, PATH_CHARS, L"%ls\\*", folder) < 0) {
        free(path);
        return failed(folder, "it cannot be looked through", ERROR_NOT_ENOUGH_MEMORY);
    }
    HANDLE search = FindFirstFileW(path, &found);
    BOOL is_more = search != INVALID_HANDLE_VALUE;
    DWORD failure = is_more ? ERROR_SUCCESS : GetLastError();
    if (!is_more && pass == CHANGING && !is_gone(failure)) code = failed(folder, "it cannot be looked through", failure);
    for (; is_more && code == 0; is_more = FindNextFileW(search, &found)) {
        if (wcscmp(found.cFileName, L".") == 0 || wcscmp(found.cFileName, L"..") == 0) continue;
        if (wcsstr(found.cFileName, L".set-aside-") != NULL) continue; // of an earlier set-up
        if (swprintf(path, PATH_CHARS, L"%ls\\%ls", folder, found.cFileName) < 0)
            code = failed(folder, "a name in it is too long", ERROR_FILENAME_EXCED_RANGE);
        else code = clear_one(path, &found, place_in(place, &found), pass);
    }
    if (search != INVALID_HANDLE_VALUE) FindClose(search);
    free(path);
    return code;
}

int folder_protect(wchar_t *folder, enum folder_kind kind) {
    BY_HANDLE_FILE_INFORMATION facts;
    know_accounts();
    if (kind == CONFIGURATION) {
        admit_service(RECEIVER);
        admit_service(AGENT);
    }
    take_privileges();
    if (!CreateDirectoryW(folder, NULL) && GetLastError() != ERROR_ALREADY_EXISTS)
        return failed(folder, "it cannot be made", GetLastError());
    // nobody puts another folder in its place while this handle is open, as it shares no removal
    HANDLE held = CreateFileW(folder, FILE_READ_ATTRIBUTES | FILE_LIST_DIRECTORY, FILE_SHARE_READ | FILE_SHARE_WRITE,
                              NULL, OPEN_EXISTING, FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT, NULL);
    if (held == INVALID_HANDLE_VALUE) return failed(folder, "it cannot be opened", GetLastError());
    enum place place = kind == PROGRAMS ? PROGRAM_FILES : ROOT;
    DWORD attributes = GetFileAttributesW(folder);
    BOOL is_link = attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_REPARSE_POINT) != 0;
    int code = is_link ? failed(folder, "it is a link; remove it", ERROR_REPARSE_TAG_INVALID)
                       : clear(folder, place, LOOKING);
    if (code == 0) {
        DWORD failure = take_over(folder, kind == PROGRAMS ? PROGRAMS_LIST : own_list);
        if (failure != ERROR_SUCCESS) code = failed(folder, "it cannot be kept from others", failure);
        // only now nobody else can make a link of it
        else if (!GetFileInformationByHandle(held, &facts) ||
                 (facts.dwFileAttributes & FILE_ATTRIBUTE_REPARSE_POINT) != 0)
            code = failed(folder, "it has become a link; remove it", ERROR_REPARSE_TAG_INVALID);
        else code = clear(folder, place, CHANGING);
    }
    CloseHandle(held);
    return code;
}

int folder_check(wchar_t *folder) {
    PSECURITY_DESCRIPTOR descriptor = NULL;
    PSID owner = NULL;
    PACL list = NULL;
    know_accounts();
    SECURITY_INFORMATION what = OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION;
    DWORD failure = GetNamedSecurityInfoW(folder, SE_FILE_OBJECT, what, &owner, NULL, &list, NULL, &descriptor);
    if (failure != ERROR_SUCCESS) return failed(folder, "its rights cannot be read", failure);
    // no list at all gives everything to everybody
    BOOL is_open = owner == NULL || !is_trusted(owner) || list == NULL;
    for (DWORD index = 0; !is_open && index < list->AceCount; index++) {
        ACCESS_ALLOWED_ACE *entry;
        is_open = !GetAce(list, index, (void **)&entry);
        if (is_open || (entry->Header.AceFlags & INHERIT_ONLY_ACE) != 0) continue;
        if (entry->Header.AceType == ACCESS_DENIED_ACE_TYPE) continue;
        // an entry of a kind that is not understood counts against the folder
        is_open = entry->Header.AceType != ACCESS_ALLOWED_ACE_TYPE ||
                  ((entry->Mask & CHANGE) != 0 && !is_trusted(&entry->SidStart));
    }
    LocalFree(descriptor);
    if (!is_open) return 0;
    fprintf(stderr, "phsvc: %ls can be changed by others than administrators\n", folder);
    return OPEN_TO_OTHERS;
}
