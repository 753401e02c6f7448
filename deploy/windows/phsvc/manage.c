// SPDX-License-Identifier: Apache-2.0
// What an installer and an administrator do with a service: make it, start it, stop it, remove it. Each waits until it
// is done, and says so by its exit code.

#include "phsvc.h"
#include <stdio.h>
#include <wchar.h>

#define DELAY_MS 100
#define RESET_SECONDS 86400
#define NOT_THERE 3
#define NOT_RUNNING 4
#define STARTING 5

static int failed(const char *what, const wchar_t *name, DWORD error) {
    fprintf(stderr, "phsvc: %ls: %s: error %lu\n", name, what, error);
    return 1;
}

/** The service, or NULL and GetLastError(). */
static SC_HANDLE open_service(const wchar_t *name, DWORD rights) {
    SC_HANDLE manager = OpenSCManagerW(NULL, NULL, SC_MANAGER_CONNECT);
    if (manager == NULL) return NULL;
    SC_HANDLE service = OpenServiceW(manager, name, rights);
    DWORD error = GetLastError();
    CloseServiceHandle(manager);
    SetLastError(error);
    return service;
}

static SERVICE_STATUS_PROCESS status_of(SC_HANDLE service) {
    SERVICE_STATUS_PROCESS status = {0};
    DWORD needed;
    QueryServiceStatusEx(service, SC_STATUS_PROCESS_INFO, (BYTE *)&status, sizeof status, &needed);
    return status;
}

/** Waits while it is in `pending`; returns what it is then. */
static SERVICE_STATUS_PROCESS wait_while(SC_HANDLE service, DWORD pending) {
    SERVICE_STATUS_PROCESS status = status_of(service);
    for (int left = WAIT_SECONDS * 1000 / DELAY_MS; left > 0 && status.dwCurrentState == pending; left--) {
        Sleep(DELAY_MS);
        status = status_of(service);
    }
    return status;
}

/** Restarts when the program ends by itself: after 5 and 30 seconds, then each minute. Starts late, ends early. */
static BOOL configure(SC_HANDLE service, const wchar_t *about) {
    SC_ACTION actions[] = {{SC_ACTION_RESTART, 5000}, {SC_ACTION_RESTART, 30000}, {SC_ACTION_RESTART, 60000}};
    SERVICE_FAILURE_ACTIONSW recovery = {.dwResetPeriod = RESET_SECONDS, .cActions = 3, .lpsaActions = actions};
    SERVICE_FAILURE_ACTIONS_FLAG on_errors = {TRUE};
    SERVICE_DELAYED_AUTO_START_INFO delayed = {TRUE};
    SERVICE_PRESHUTDOWN_INFO shutdown = {(STOP_SECONDS + 10) * 1000};
    SERVICE_DESCRIPTIONW description = {(wchar_t *)about};
    // what an older Windows, or Wine, does not have is no reason to go without the service
    ChangeServiceConfig2W(service, SERVICE_CONFIG_FAILURE_ACTIONS_FLAG, &on_errors);
    ChangeServiceConfig2W(service, SERVICE_CONFIG_DELAYED_AUTO_START_INFO, &delayed);
    ChangeServiceConfig2W(service, SERVICE_CONFIG_PRESHUTDOWN_INFO, &shutdown);
    ChangeServiceConfig2W(service, SERVICE_CONFIG_FAILURE_ACTIONS, &recovery);
    return ChangeServiceConfig2W(service, SERVICE_CONFIG_DESCRIPTION, &description);
}

int service_install(const wchar_t *name, const wchar_t *title, const wchar_t *about,
                    const wchar_t *command_line) {
    SC_HANDLE manager = OpenSCManagerW(NULL, NULL, SC_MANAGER_CONNECT | SC_MANAGER_CREATE_SERVICE);
    if (manager == NULL) return failed("the service manager does not answer", name, GetLastError());
    SC_HANDLE service = OpenServiceW(manager, name, SERVICE_ALL_ACCESS);
    BOOL is_done;
    if (service != NULL) {
        // account and way of starting are the administrator's once it is there
        is_done = ChangeServiceConfigW(service, SERVICE_NO_CHANGE, SERVICE_NO_CHANGE, SERVICE_NO_CHANGE,
                                       command_line, NULL, NULL, NULL, NULL, NULL, title);
    } else {
        service = CreateServiceW(manager, name, title, SERVICE_ALL_ACCESS, SERVICE_WIN32_OWN_PROCESS,
                                 SERVICE_AUTO_START, SERVICE_ERROR_NORMAL, command_line, NULL, NULL, NULL,
                                 NULL, NULL);
        is_done = service != NULL;
        if (is_done) configure(service, about);
    }
    DWORD error = GetLastError();
    if (service != NULL) CloseServiceHandle(service);
    CloseServiceHandle(manager);
    return is_done ? 0 : failed("it cannot be made", name, error);
}

int service_restore(const wchar_t *name, const wchar_t *title, const wchar_t *command_line) {
    SC_HANDLE service = open_service(name, SERVICE_CHANGE_CONFIG);
    if (service == NULL) return failed("it is not there", name, GetLastError());
    BOOL is_done = ChangeServiceConfigW(service, SERVICE_NO_CHANGE, SERVICE_NO_CHANGE, SERVICE_NO_CHANGE,
                                        command_line, NULL, NULL, NULL, NULL, NULL, title);
    DWORD error = GetLastError();
    CloseServiceHandle(service);
    return is_done ? 0 : failed("it cannot be changed back", name, error);
}

int service_start(const wchar_t *name) {
    SC_HANDLE service = open_service(name, SERVICE_START | SERVICE_QUERY_STATUS);
    if (service == NULL) return failed("it is not there", name, GetLastError());
    int code = 0;
    if (!StartServiceW(service, 0, NULL) && GetLastError() != ERROR_SERVICE_ALREADY_RUNNING) {
        code = failed("it cannot be started", name, GetLastError());
    } else {
        SERVICE_STATUS_PROCESS status = wait_while(service, SERVICE_START_PENDING);
        if (status.dwCurrentState != SERVICE_RUNNING) {
            DWORD why = status.dwWin32ExitCode == ERROR_SERVICE_SPECIFIC_ERROR
                            ? status.dwServiceSpecificExitCode
                            : status.dwWin32ExitCode;
            code = failed("its program did not come to work, see its log", name, why);
        }
    }
    CloseServiceHandle(service);
    return code;
}

/** Until its process is gone as well, so that its files can be replaced. */
int service_stop(const wchar_t *name) {
    SC_HANDLE service = open_service(name, SERVICE_STOP | SERVICE_QUERY_STATUS);
    if (service == NULL) {
        DWORD error = GetLastError();
        return error == ERROR_SERVICE_DOES_NOT_EXIST ? 0 : failed("it cannot be opened", name, error);
    }
    int code = 0;
    SERVICE_STATUS ignored;
    DWORD id = status_of(service).dwProcessId;
    HANDLE process = id == 0 ? NULL : OpenProcess(SYNCHRONIZE, FALSE, id);
    BOOL is_told = ControlService(service, SERVICE_CONTROL_STOP, &ignored);
    if (!is_told && GetLastError() == ERROR_SERVICE_CANNOT_ACCEPT_CTRL) {
        // one that only begins to start takes no word yet
        wait_while(service, SERVICE_START_PENDING);
        is_told = ControlService(service, SERVICE_CONTROL_STOP, &ignored);
    }
    if (!is_told && GetLastError() != ERROR_SERVICE_NOT_ACTIVE &&
        GetLastError() != ERROR_SERVICE_CANNOT_ACCEPT_CTRL) {
        code = failed("it cannot be stopped", name, GetLastError());
    } else if (wait_while(service, SERVICE_STOP_PENDING).dwCurrentState != SERVICE_STOPPED) {
        code = failed("it does not stop", name, ERROR_TIMEOUT);
    } else if (process != NULL) {
        WaitForSingleObject(process, STOP_SECONDS * 1000);
    }
    if (process != NULL) CloseHandle(process);
    CloseServiceHandle(service);
    return code;
}

int service_remove(const wchar_t *name) {
    int code = service_stop(name);
    if (code != 0) return code;
    SC_HANDLE service = open_service(name, DELETE);
    if (service == NULL) {
        DWORD error = GetLastError();
        return error == ERROR_SERVICE_DOES_NOT_EXIST ? 0 : failed("it cannot be opened", name, error);
    }
    if (!DeleteService(service)) code = failed("it cannot be removed", name, GetLastError());
    CloseServiceHandle(service);
    return code;
}

int service_state(const wchar_t *name) {
    SC_HANDLE service = open_service(name, SERVICE_QUERY_STATUS);
    if (service == NULL) {
        DWORD error = GetLastError();
        return error == ERROR_SERVICE_DOES_NOT_EXIST ? NOT_THERE : failed("it cannot be opened", name, error);
    }
    SERVICE_STATUS_PROCESS status = status_of(service);
    CloseServiceHandle(service);
    printf("state %lu, exit code %lu, of its program %lu\n", status.dwCurrentState, status.dwWin32ExitCode,
           status.dwServiceSpecificExitCode);
    switch (status.dwCurrentState) {
    case SERVICE_RUNNING: return 0;
    case SERVICE_START_PENDING:
    case SERVICE_CONTINUE_PENDING: return STARTING;
    default: return NOT_RUNNING;
    }
}
