// A processor without AVX-512, AMX, VNNI and bf16, for one program and what it starts (Linux on Intel, which can make
// `cpuid` a fault): gcc -shared -fPIC -O2 tools/avx2.c -o avx2.so; LD_PRELOAD=./avx2.so python bench/run.py
#define _GNU_SOURCE
#include <cpuid.h>
#include <dlfcn.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { set_cpuid = 0x1012 };   // of arch_prctl

static void say_no(unsigned leaf, unsigned sub, unsigned *b, unsigned *c, unsigned *d, unsigned *a) {
    if (leaf == 7 && sub == 0) {
        *b &= ~(1u<<16 | 1u<<17 | 1u<<21 | 1u<<26 | 1u<<27 | 1u<<28 | 1u<<30 | 1u<<31);   // AVX-512
        *c &= ~(1u<<1 | 1u<<6 | 1u<<11 | 1u<<12 | 1u<<14);                               // VBMI, VNNI, BITALG, VPOPCNTDQ
        *d &= ~(1u<<2 | 1u<<3 | 1u<<8 | 1u<<22 | 1u<<23 | 1u<<24 | 1u<<25);              // AVX-512 FP16, AMX
    }
    if (leaf == 7 && sub == 1) {
        *a &= ~(1u<<4 | 1u<<5 | 1u<<21);                                                 // AVX-VNNI, bf16, AMX FP16
        *d &= ~(1u<<4 | 1u<<5 | 1u<<10 | 1u<<19);                                        // VNNI of other types, AVX10
    }
}

static void on_fault(int number, siginfo_t *info, void *context) {
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    const uint8_t *at = (const uint8_t *)r[REG_RIP];
    if (info->si_code != SI_KERNEL || at[0] != 0x0f || at[1] != 0xa2) { signal(SIGSEGV, SIG_DFL); return; }   // a real fault
    unsigned leaf = r[REG_RAX], sub = r[REG_RCX], a, b, c, d;
    syscall(SYS_arch_prctl, set_cpuid, 1);
    __cpuid_count(leaf, sub, a, b, c, d);
    syscall(SYS_arch_prctl, set_cpuid, 0);
    say_no(leaf, sub, &b, &c, &d, &a);
    r[REG_RAX] = a; r[REG_RBX] = b; r[REG_RCX] = c; r[REG_RDX] = d; r[REG_RIP] += 2;
}

// Who else asks for this signal (workers of a loader, Python's faulthandler) is told yes, and does not get it
int sigaction(int number, const struct sigaction *act, struct sigaction *old) {
    static int (*real)(int, const struct sigaction *, struct sigaction *);
    if (!real) real = dlsym(RTLD_NEXT, "sigaction");
    return real(number, number == SIGSEGV && act && act->sa_sigaction != on_fault ? NULL : act, old);
}

__attribute__((constructor)) static void begin(void) {
    struct sigaction act = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER };
    sigaction(SIGSEGV, &act, NULL);
    if (syscall(SYS_arch_prctl, set_cpuid, 0)) { perror("this processor cannot hide what it is"); exit(1); }
}
