// SPDX-License-Identifier: AGPL-3.0-only
// Who this build is: one source, three plugins, chosen by -DADAPTER_VSPHERE or -DADAPTER_PROXMOX. Limits of
// time in seconds; tests build with shorter ones.

#ifndef HVDR_NAMES_H
#define HVDR_NAMES_H

#if defined(ADAPTER_VSPHERE)
#define PLUGIN_NAME "podheitor-vsphere"
#define PLUGIN_NAMESPACE "@vsphere"
#elif defined(ADAPTER_PROXMOX)
#define PLUGIN_NAME "podheitor-proxmox"
#define PLUGIN_NAMESPACE "@proxmox_"
#else
#define PLUGIN_NAME "podheitor-hyperv"
#define PLUGIN_NAMESPACE "@hyperv"
#endif

#define PLUGIN_API "4"

#ifndef PLUGIN_VERSION
#define PLUGIN_VERSION "0.0.0"
#endif

#ifdef _WIN32
#define BACKEND_NAME "podheitor-hyperv-backend.exe"
#else
#define BACKEND_NAME "podheitor-hyperv-backend"
#endif

#ifndef BACKEND_DEFAULT
#define BACKEND_DEFAULT "/usr/lib/podheitor/podheitor-hyperv-backend"
#endif

// the backend has to say hello
#ifndef HANDSHAKE_SECONDS
#define HANDSHAKE_SECONDS 30
#endif

// silence of a backend that works; each of its messages begins this anew
#ifndef SILENCE_SECONDS
#define SILENCE_SECONDS 3600
#endif

// from END to the exit
#ifndef EXIT_SECONDS
#define EXIT_SECONDS 30
#endif

// from a cancel to the kill; checkpoints and leases are given back in this time
#ifndef CANCEL_SECONDS
#define CANCEL_SECONDS 15
#endif

#endif
