/* Rust's std takes its random bytes from ProcessPrng of bcryptprimitives.dll, which wine 8 has not got. This is
 * a library of that name with that function, for tests only; the bytes are those of an older interface, under
 * its real name. */
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG length);

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE buffer, SIZE_T length)
{
    for (; length > 0x10000000; buffer += 0x10000000, length -= 0x10000000)
        if (!SystemFunction036(buffer, 0x10000000))
            return FALSE;
    return SystemFunction036(buffer, (ULONG)length);
}
