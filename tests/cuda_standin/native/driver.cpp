// The CUDA driver of the stand-in: modules of PTX, which ptx.py translates, and launches.
#include "device.h"
#include <cuda.h>
#include <dlfcn.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>

struct Hooks { // lent to each translated module, see ptx.h
    uint64_t (*owner)(const void*, size_t);
    void (*touch)(uint64_t, size_t, size_t);
};
static const Hooks lent = {owner_of, touch};

struct Module;
struct Function {
    Module* module;
    std::string name;
    const char* (*run)(void**, const unsigned*, size_t);
    const unsigned* limits; // most threads of a block, bytes of static shared memory
    int most_dynamic;
};
struct Module {
    void* handle;
    const uint64_t *loaded, *stored;
    std::map<std::string, Function> functions;
};

// The translation of a PTX text, from the cache or made now; "" where it fails.
static std::string translation(const std::string& text) {
    const char *folder = getenv("STANDIN_CACHE"), *translator = getenv("STANDIN_TRANSLATOR");
    if (!folder || !translator) { fail("use `python -m tests.cuda_standin run -- COMMAND`", 0); return ""; }
    uint64_t hash = 14695981039346656037ull; // FNV-1a
    for (unsigned char c : text) hash = (hash ^ c) * 1099511628211ull;
    char name[32];
    snprintf(name, sizeof name, "/%016lx", hash);
    const std::string stem = folder + std::string(name), library = stem + ".so";
    if (access(library.c_str(), R_OK) == 0) return library;
    const std::string own = stem + "." + std::to_string(getpid()) + ".ptx"; // other processes may do the same
    std::ofstream(own) << text;
    const std::string command = std::string(translator) + " '" + own + "' '" + library + "'";
    const int status = system(command.c_str());
    if (status) { fail("a kernel's PTX could not be translated; it is kept in " + own, 0); return ""; }
    remove(own.c_str());
    return library;
}

extern "C" {
CUresult cuGetErrorName(CUresult e, const char** s) {
    *s = e == CUDA_ERROR_NOT_FOUND       ? "CUDA_ERROR_NOT_FOUND"
         : e == CUDA_ERROR_INVALID_VALUE ? "CUDA_ERROR_INVALID_VALUE"
         : e == CUDA_ERROR_LAUNCH_FAILED ? "CUDA_ERROR_LAUNCH_FAILED"
         : e == CUDA_ERROR_INVALID_IMAGE ? "CUDA_ERROR_INVALID_IMAGE"
         : e == CUDA_ERROR_NOT_SUPPORTED ? "CUDA_ERROR_NOT_SUPPORTED"
                                         : "CUDA_ERROR_UNKNOWN";
    return CUDA_SUCCESS;
}
CUresult cuGetErrorString(CUresult, const char** s) { *s = last_error.c_str(); return CUDA_SUCCESS; }
#undef cuCtxGetCurrent
CUresult cuCtxGetCurrent(CUcontext* c) { *c = reinterpret_cast<CUcontext>(1); return CUDA_SUCCESS; }
CUresult cuCtxSetCurrent(CUcontext) { return CUDA_SUCCESS; }
CUresult cuCtxGetDevice(CUdevice* d) { *d = 0; return CUDA_SUCCESS; }

CUresult cuModuleLoadData(CUmodule* module, const void* image) {
    const char* text = static_cast<const char*>(image);
    if (strncmp(text, "//", 2))
        return CUresult(fail("a kernel came as machine code; the stand-in runs PTX only", CUDA_ERROR_INVALID_IMAGE));
    const std::string library = translation(text);
    if (library.empty()) return CUDA_ERROR_INVALID_IMAGE;
    void* handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!handle) return CUresult(fail(dlerror(), CUDA_ERROR_INVALID_IMAGE));
    reinterpret_cast<void (*)(const Hooks*)>(dlsym(handle, "standin_attach"))(&lent);
    auto bytes = [&](const char* name) { return static_cast<const uint64_t*>(dlsym(handle, name)); };
    *module = reinterpret_cast<CUmodule>(new Module{handle, bytes("standin_loaded"), bytes("standin_stored"), {}});
    return CUDA_SUCCESS;
}
CUresult cuModuleUnload(CUmodule) { return CUDA_SUCCESS; }
CUresult cuModuleGetFunction(CUfunction* function, CUmodule handle, const char* name) {
    Module* module = reinterpret_cast<Module*>(handle);
    auto found = module->functions.find(name);
    if (found == module->functions.end()) {
        void* run = dlsym(module->handle, (std::string("standin_run_") + name).c_str());
        void* limits = dlsym(module->handle, (std::string("standin_limits_") + name).c_str());
        if (!run) { last_error = std::string("named symbol not found: ") + name; return CUDA_ERROR_NOT_FOUND; }
        Function one{module, name, reinterpret_cast<const char* (*)(void**, const unsigned*, size_t)>(run),
                     static_cast<const unsigned*>(limits), 0};
        one.most_dynamic = 49152 - int(one.limits[1]);
        found = module->functions.emplace(name, one).first;
    }
    *function = reinterpret_cast<CUfunction>(&found->second);
    return CUDA_SUCCESS;
}
CUresult cuModuleGetGlobal_v2(CUdeviceptr*, size_t*, CUmodule, const char*) { return CUDA_ERROR_NOT_SUPPORTED; }

CUresult cuFuncGetAttribute(int* value, CUfunction_attribute a, CUfunction handle) {
    const Function* f = reinterpret_cast<Function*>(handle);
    *value = a == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK           ? int(f->limits[0])
             : a == CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES             ? int(f->limits[1])
             : a == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES ? f->most_dynamic
                                                                    : 0;
    return CUDA_SUCCESS;
}
int cudaDeviceGetAttribute(int*, int, int);
CUresult cuFuncSetAttribute(CUfunction handle, CUfunction_attribute a, int value) {
    Function* f = reinterpret_cast<Function*>(handle);
    int most = 0;
    cudaDeviceGetAttribute(&most, 97, 0); // cudaDevAttrMaxSharedMemoryPerBlockOptin
    if (a != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) return CUDA_SUCCESS;
    if (value + int(f->limits[1]) > most)
        return CUresult(fail(f->name + " may not have that much shared memory on this device", CUDA_ERROR_INVALID_VALUE));
    f->most_dynamic = value;
    return CUDA_SUCCESS;
}
CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* n, CUfunction, int, size_t) { *n = 2; return CUDA_SUCCESS; }
CUresult cuOccupancyMaxPotentialBlockSize(int* grid, int* block, CUfunction, CUoccupancyB2DSize, size_t, int) {
    *grid = 8, *block = 256;
    return CUDA_SUCCESS;
}

// A launch of a kernel that does not come through the driver, see host.py.
void standin_launched(const char* name, const unsigned* shape, unsigned shared, uint64_t stream) {
    ++standin_counters.launches;
    Event& event = record("launch", name, reinterpret_cast<void*>(stream), 0);
    memcpy(event.grid, shape, sizeof event.grid);
    memcpy(event.block, shape + 3, sizeof event.block);
    event.shared = shared;
}

CUresult cuLaunchKernel(CUfunction handle, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                        unsigned dynamic, CUstream stream, void** arguments, void**) {
    Function* f = reinterpret_cast<Function*>(handle);
    const unsigned shape[6] = {gx, gy, gz, bx, by, bz};
    if (!gx || !gy || !gz || !bx || !by || !bz || gx > 2147483647u || gy > 65535 || gz > 65535 || bx > 1024 || by > 1024 ||
        bz > 64 || bx * by * bz > f->limits[0] || int(dynamic) > f->most_dynamic)
        return CUresult(fail("invalid launch of " + f->name + ": grid (" + std::to_string(gx) + "," + std::to_string(gy) + "," +
                                 std::to_string(gz) + "), block (" + std::to_string(bx) + "," + std::to_string(by) + "," +
                                 std::to_string(bz) + "), " + std::to_string(dynamic) + " bytes of dynamic shared memory",
                             CUDA_ERROR_INVALID_VALUE));
    Counters& count = standin_counters;
    ++count.launches;
    count.threads += uint64_t(gx) * gy * gz * bx * by * bz;
    const char* error = f->run(arguments, shape, dynamic);
    Event& event = record("launch", f->name, stream, 0);
    memcpy(event.grid, shape, sizeof event.grid);
    memcpy(event.block, shape + 3, sizeof event.block);
    event.shared = f->limits[1] + dynamic;
    event.loaded = *f->module->loaded, event.stored = *f->module->stored;
    count.loaded_bytes += event.loaded, count.stored_bytes += event.stored;
    return error ? CUresult(fail(f->name + ": " + error, CUDA_ERROR_LAUNCH_FAILED)) : CUDA_SUCCESS;
}
}
