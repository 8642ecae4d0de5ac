/* Copyright 2026 The maas-virtualbox authors
 * SPDX-License-Identifier: Apache-2.0
 *
 * A stand-in for VBoxHeadless, the program that runs a VM without a window.
 *
 * VirtualBox's own is a set-uid stub that insists on the kernel module. This one starts the same
 * front end (TrustedMain in VBoxHeadless.so) with the support library in driverless mode; with
 * the extra data VBoxInternal/HM/FallbackToIEM=1 the VM then really runs, interpreted.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>

#define PROGRAM_DIR "/usr/lib/virtualbox/"

/* From VirtualBox's include/VBox/sup.h, which the package does not ship. */
#define SUPR3INIT_F_UNRESTRICTED 1u
#define SUPR3INIT_F_DRIVERLESS 4u

typedef int (*rt_init_fn)(int, char ***, uint32_t);
typedef int (*sup_init_fn)(uint32_t, void **);
typedef int (*trusted_main_fn)(int, char **, char **);

static void *library(const char *path)
{
    void *handle = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (!handle)
        fprintf(stderr, "VBoxHeadless (driverless): %s\n", dlerror());
    return handle;
}

static void *symbol(void *handle, const char *name)
{
    void *address = handle ? dlsym(handle, name) : NULL;
    if (handle && !address)
        fprintf(stderr, "VBoxHeadless (driverless): %s\n", dlerror());
    return address;
}

/* Returns whether a VirtualBox status code says success (zero or more). */
static int succeeded(const char *what, int status)
{
    if (status < 0)
        fprintf(stderr, "VBoxHeadless (driverless): %s: status %d\n", what, status);
    return status >= 0;
}

int main(int argc, char **argv, char **envp)
{
    void *runtime = library(PROGRAM_DIR "VBoxRT.so");
    rt_init_fn rt_init = (rt_init_fn)symbol(runtime, "RTR3InitExe");
    sup_init_fn sup_init = (sup_init_fn)symbol(runtime, "SUPR3InitEx");
    if (!rt_init || !sup_init)
        return 1;
    if (!succeeded("RTR3InitExe", rt_init(argc, &argv, 0)))
        return 1;
    /* Before the front end is loaded: it would start the support library its own way. */
    uint32_t flags = SUPR3INIT_F_UNRESTRICTED | SUPR3INIT_F_DRIVERLESS;
    if (!succeeded("SUPR3InitEx", sup_init(flags, NULL)))
        return 1;
    void *front_end = library(PROGRAM_DIR "VBoxHeadless.so");
    trusted_main_fn trusted_main = (trusted_main_fn)symbol(front_end, "TrustedMain");
    return trusted_main ? trusted_main(argc, argv, envp) : 1;
}
