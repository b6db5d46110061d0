/* A played libnvidia-ml.so.1: it answers from a state file that player.py rewrites, and re-reads it on every call.
 *
 * State file, one record a line, fields separated by tabs:
 *   driver VERSION | nvml VERSION | cuda NUMBER
 *   gpu INDEX TOTAL RESERVED USED UTIL MEMUTIL TEMP_C POWER_MW LIMIT_MW REASONS MINOR CC_MAJOR CC_MINOR FAN BUSID UUID NAME
 *       (bytes; USED without reserved; UTIL and the like are -1 where the card does not support them)
 *   proc GPU PID BYTES TYPE        (BYTES -1: not available; TYPE C, G or CG)
 *   fault FUNCTION GPU CODE        (FUNCTION without the prefix nvml and any _v suffix, or *; GPU -1: every one;
 *       CODE -1: it does not return for as long as this line is there)
 *   event SEQUENCE GPU TYPE DATA
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define MAX_GPUS 16
#define MAX_PROCS 256
#define MAX_FAULTS 64
#define API __attribute__((visibility("default")))

enum {
  HANGS = -1, OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
  DRIVER_NOT_LOADED = 9, TIMEOUT = 10, GPU_IS_LOST = 15, UNKNOWN = 999, ARGUMENT_VERSION_MISMATCH = 25
};

typedef unsigned long long u64;
typedef int ret;

struct gpu {
  u64 total, reserved, used, reasons;
  int util, memutil, temp, power_mw, limit_mw, minor, cc_major, cc_minor, fan;
  char bus[32], uuid[96], name[96];
};
struct proc { int gpu; unsigned pid; long long bytes; char type[4]; };
struct fault { char function[64]; int gpu, code; };
struct state {
  char driver[80], nvml[80];
  int cuda, gpus, procs, faults, event_gpu;
  u64 event_sequence, event_type, event_data;
  struct gpu gpu[MAX_GPUS];
  struct proc proc[MAX_PROCS];
  struct fault fault[MAX_FAULTS];
};
struct device { int index; };
struct event_set { u64 seen; unsigned registered; };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int initialised;
static struct device devices[MAX_GPUS];

static int read_state(struct state *s) {
  const char *path = getenv("GPUMOD_BED_STATE");
  FILE *file = fopen(path ? path : "/run/gpumod-bed/gpu/state", "re");
  char line[1024];
  memset(s, 0, sizeof *s);
  if (!file) return DRIVER_NOT_LOADED;
  while (fgets(line, sizeof line, file)) {
    line[strcspn(line, "\n")] = 0;
    if (!strncmp(line, "gpu\t", 4)) {
      struct gpu g;
      int index;
      memset(&g, 0, sizeof g);
      if (sscanf(line, "gpu\t%d\t%llu\t%llu\t%llu\t%d\t%d\t%d\t%d\t%d\t%llu\t%d\t%d\t%d\t%d\t%31[^\t]\t%95[^\t]\t%95[^\t]",
                 &index, &g.total, &g.reserved, &g.used, &g.util, &g.memutil, &g.temp, &g.power_mw, &g.limit_mw,
                 &g.reasons, &g.minor, &g.cc_major, &g.cc_minor, &g.fan, g.bus, g.uuid, g.name) == 17 &&
          index >= 0 && index < MAX_GPUS) {
        s->gpu[index] = g;
        if (index + 1 > s->gpus) s->gpus = index + 1;
      }
    } else if (!strncmp(line, "proc\t", 5) && s->procs < MAX_PROCS) {
      struct proc *p = &s->proc[s->procs];
      if (sscanf(line, "proc\t%d\t%u\t%lld\t%3s", &p->gpu, &p->pid, &p->bytes, p->type) == 4) s->procs++;
    } else if (!strncmp(line, "fault\t", 6) && s->faults < MAX_FAULTS) {
      struct fault *f = &s->fault[s->faults];
      if (sscanf(line, "fault\t%63[^\t]\t%d\t%d", f->function, &f->gpu, &f->code) == 3) s->faults++;
    } else if (!strncmp(line, "event\t", 6)) {
      sscanf(line, "event\t%llu\t%d\t%llu\t%llu", &s->event_sequence, &s->event_gpu, &s->event_type, &s->event_data);
    } else {
      sscanf(line, "driver\t%79s", s->driver);
      sscanf(line, "nvml\t%79s", s->nvml);
      sscanf(line, "cuda\t%d", &s->cuda);
    }
  }
  fclose(file);
  return OK;
}

static int same_function(const char *name, const char *rule) {
  size_t n = strlen(rule);
  if (!strncmp(rule, "nvml", 4)) rule += 4, n -= 4;
  if (!strncmp(name, "nvml", 4)) name += 4;
  if (!strcmp(rule, "*")) return strncmp(name, "Init", 4) && strcmp(name, "Shutdown") && strcmp(name, "ErrorString");
  return !strncmp(name, rule, n) && (!name[n] || (name[n] == '_' && name[n + 1] == 'v'));
}

static int planned(const struct state *s, const char *function, int gpu) {
  for (int i = 0; i < s->faults; i++)
    if ((s->fault[i].gpu < 0 || s->fault[i].gpu == gpu) && same_function(function, s->fault[i].function))
      return s->fault[i].code;
  return OK;
}

static int faulty(struct state *s, const char *function, int gpu) {
  int code;
  while ((code = planned(s, function, gpu)) == HANGS) {
    nanosleep(&(struct timespec){0, 20 * 1000 * 1000}, 0);
    if (read_state(s)) return UNKNOWN;
  }
  return code;
}

/* Every answer begins here: state, life of the library, planned faults. */
static int begin(struct state *s, const char *function) {
  int code, alive;
  pthread_mutex_lock(&lock);
  alive = initialised;
  pthread_mutex_unlock(&lock);
  if (!alive) return UNINITIALIZED;
  if ((code = read_state(s))) return UNKNOWN;
  return faulty(s, function, -2);
}

static int begin_device(struct state *s, const char *function, struct device *device, struct gpu **gpu) {
  int code = begin(s, function);
  if (code == UNINITIALIZED || code == UNKNOWN) return code;
  if (device < devices || device >= devices + MAX_GPUS) return INVALID_ARGUMENT;
  int index = (int)(device - devices);
  if ((code = faulty(s, function, index))) return code;
  if (index >= s->gpus) return GPU_IS_LOST;
  *gpu = &s->gpu[index];
  return OK;
}

#define BEGIN struct state *s = &(struct state){0}; do { int c_ = begin(s, __func__); if (c_) return c_; } while (0)
#define BEGIN_DEVICE(device) \
  struct state *s = &(struct state){0}; struct gpu *g = 0; \
  do { int c_ = begin_device(s, __func__, device, &g); if (c_) return c_; } while (0)

static ret copy(char *to, unsigned size, const char *from) {
  if (!to) return INVALID_ARGUMENT;
  if (strlen(from) + 1 > size) return INSUFFICIENT_SIZE;
  strcpy(to, from);
  return OK;
}

static ret number(unsigned *to, int value) {
  if (!to) return INVALID_ARGUMENT;
  if (value < 0) return NOT_SUPPORTED;
  *to = (unsigned)value;
  return OK;
}

static ret init(const char *function) {
  struct state *s = &(struct state){0};
  int code = read_state(s);
  if (code) return code;
  if ((code = faulty(s, function, -2))) return code;
  if ((code = faulty(s, "nvmlInit", -2))) return code;
  pthread_mutex_lock(&lock);
  initialised++;
  pthread_mutex_unlock(&lock);
  return OK;
}
API ret nvmlInit_v2(void) { return init(__func__); }
API ret nvmlInit(void) { return init(__func__); }
API ret nvmlInitWithFlags(unsigned flags) { (void)flags; return init(__func__); }
API ret nvmlShutdown(void) {
  int code = OK;
  pthread_mutex_lock(&lock);
  if (initialised) initialised--; else code = UNINITIALIZED;
  pthread_mutex_unlock(&lock);
  return code;
}

API const char *nvmlErrorString(ret code) {
  switch (code) {
    case 0: return "Success";
    case 1: return "Uninitialized";
    case 2: return "Invalid Argument";
    case 3: return "Not Supported";
    case 4: return "Insufficient Permissions";
    case 6: return "Not Found";
    case 7: return "Insufficient Size";
    case 9: return "Driver Not Loaded";
    case 10: return "Timeout";
    case 13: return "Function Not Found";
    case 15: return "GPU is lost";
    case 16: return "GPU requires reset";
    case 18: return "Driver/library version mismatch";
    case 25: return "Argument Version Mismatch";
    default: return "Unknown Error";
  }
}

API ret nvmlSystemGetDriverVersion(char *to, unsigned size) { BEGIN; return copy(to, size, s->driver); }
API ret nvmlSystemGetNVMLVersion(char *to, unsigned size) { BEGIN; return copy(to, size, s->nvml); }
API ret nvmlSystemGetCudaDriverVersion(int *to) { BEGIN; *to = s->cuda; return OK; }
API ret nvmlSystemGetCudaDriverVersion_v2(int *to) { BEGIN; *to = s->cuda; return OK; }
API ret nvmlSystemGetProcessName(unsigned pid, char *to, unsigned size) {
  BEGIN;
  char path[64], name[1024] = "";
  snprintf(path, sizeof path, "/proc/%u/cmdline", pid);
  FILE *file = fopen(path, "re");
  if (!file) return NOT_FOUND;
  size_t n = fread(name, 1, sizeof name - 1, file);
  name[n] = 0;
  fclose(file);
  snprintf(to, size, "%s", name);
  return OK;
}

API ret nvmlDeviceGetCount_v2(unsigned *to) { BEGIN; *to = (unsigned)s->gpus; return OK; }
API ret nvmlDeviceGetCount(unsigned *to) { return nvmlDeviceGetCount_v2(to); }

static ret handle(struct state *s, const char *function, int index, struct device **to) {
  int code = faulty(s, function, index);
  if (code) return code;
  *to = &devices[index];
  return OK;
}
API ret nvmlDeviceGetHandleByIndex_v2(unsigned index, struct device **to) {
  BEGIN;
  if ((int)index >= s->gpus) return INVALID_ARGUMENT;
  return handle(s, __func__, (int)index, to);
}
API ret nvmlDeviceGetHandleByIndex(unsigned index, struct device **to) { return nvmlDeviceGetHandleByIndex_v2(index, to); }
API ret nvmlDeviceGetHandleByUUID(const char *uuid, struct device **to) {
  BEGIN;
  for (int i = 0; i < s->gpus; i++)
    if (!strcmp(uuid, s->gpu[i].uuid)) return handle(s, __func__, i, to);
  return NOT_FOUND;
}
API ret nvmlDeviceGetHandleByPciBusId_v2(const char *bus, struct device **to) {
  BEGIN;
  for (int i = 0; i < s->gpus; i++)
    if (!strcasecmp(bus, s->gpu[i].bus)) return handle(s, __func__, i, to);
  return NOT_FOUND;
}

API ret nvmlDeviceGetIndex(struct device *d, unsigned *to) { BEGIN_DEVICE(d); *to = (unsigned)(g - s->gpu); return OK; }
API ret nvmlDeviceGetName(struct device *d, char *to, unsigned size) { BEGIN_DEVICE(d); return copy(to, size, g->name); }
API ret nvmlDeviceGetUUID(struct device *d, char *to, unsigned size) { BEGIN_DEVICE(d); return copy(to, size, g->uuid); }
API ret nvmlDeviceGetMinorNumber(struct device *d, unsigned *to) { BEGIN_DEVICE(d); return number(to, g->minor); }

struct pci { char legacy[16]; unsigned domain, bus, device, device_id, subsystem_id; char bus_id[32]; };
API ret nvmlDeviceGetPciInfo_v3(struct device *d, struct pci *to) {
  BEGIN_DEVICE(d);
  memset(to, 0, sizeof *to);
  sscanf(g->bus, "%x:%x:%x", &to->domain, &to->bus, &to->device);
  snprintf(to->legacy, sizeof to->legacy, "%04X:%02X:%02X.0", to->domain & 0xffff, to->bus & 0xff, to->device & 0xff);
  snprintf(to->bus_id, sizeof to->bus_id, "%s", g->bus);
  to->device_id = 0x268410DE;
  return OK;
}

static u64 free_bytes(const struct gpu *g) {
  u64 taken = g->reserved + g->used;
  return taken < g->total ? g->total - taken : 0;
}
struct memory { u64 total, free, used; };
API ret nvmlDeviceGetMemoryInfo(struct device *d, struct memory *to) {
  BEGIN_DEVICE(d);
  to->total = g->total;
  to->free = free_bytes(g);
  to->used = g->total - to->free;
  return OK;
}
struct memory_v2 { unsigned version; u64 total, reserved, free, used; };
API ret nvmlDeviceGetMemoryInfo_v2(struct device *d, struct memory_v2 *to) {
  BEGIN_DEVICE(d);
  if (to->version != (sizeof *to | 2u << 24)) return ARGUMENT_VERSION_MISMATCH;
  to->total = g->total;
  to->reserved = g->reserved;
  to->free = free_bytes(g);
  to->used = g->total - g->reserved - to->free;
  return OK;
}

struct utilization { unsigned gpu, memory; };
API ret nvmlDeviceGetUtilizationRates(struct device *d, struct utilization *to) {
  BEGIN_DEVICE(d);
  int code = number(&to->gpu, g->util);
  return code ? code : number(&to->memory, g->memutil < 0 ? 0 : g->memutil);
}
API ret nvmlDeviceGetTemperature(struct device *d, int sensor, unsigned *to) {
  BEGIN_DEVICE(d);
  return sensor ? INVALID_ARGUMENT : number(to, g->temp);
}
struct temperature { unsigned version; int sensor, celsius; };
API ret nvmlDeviceGetTemperatureV(struct device *d, struct temperature *to) {
  BEGIN_DEVICE(d);
  if (to->version != (sizeof *to | 1u << 24)) return ARGUMENT_VERSION_MISMATCH;
  return to->sensor ? INVALID_ARGUMENT : number((unsigned *)&to->celsius, g->temp);
}
API ret nvmlDeviceGetPowerUsage(struct device *d, unsigned *to) { BEGIN_DEVICE(d); return number(to, g->power_mw); }
API ret nvmlDeviceGetEnforcedPowerLimit(struct device *d, unsigned *to) { BEGIN_DEVICE(d); return number(to, g->limit_mw); }
API ret nvmlDeviceGetPowerManagementLimit(struct device *d, unsigned *to) { BEGIN_DEVICE(d); return number(to, g->limit_mw); }
API ret nvmlDeviceGetPowerManagementDefaultLimit(struct device *d, unsigned *to) { BEGIN_DEVICE(d); return number(to, g->limit_mw); }
API ret nvmlDeviceGetFanSpeed(struct device *d, unsigned *to) { BEGIN_DEVICE(d); return number(to, g->fan); }
API ret nvmlDeviceGetCurrentClocksEventReasons(struct device *d, u64 *to) { BEGIN_DEVICE(d); *to = g->reasons; return OK; }
API ret nvmlDeviceGetCurrentClocksThrottleReasons(struct device *d, u64 *to) { BEGIN_DEVICE(d); *to = g->reasons; return OK; }
API ret nvmlDeviceGetSupportedClocksEventReasons(struct device *d, u64 *to) { BEGIN_DEVICE(d); *to = 0x1ff; return OK; }
API ret nvmlDeviceGetClockInfo(struct device *d, int type, unsigned *to) {
  BEGIN_DEVICE(d);
  static const int idle[] = {210, 210, 405, 1185}, busy[] = {2520, 2520, 10501, 1950};
  if (type < 0 || type > 3) return INVALID_ARGUMENT;
  return number(to, g->util > 0 ? busy[type] : idle[type]);
}
API ret nvmlDeviceGetMaxClockInfo(struct device *d, int type, unsigned *to) {
  BEGIN_DEVICE(d);
  static const int most[] = {3120, 3120, 10501, 2415};
  return type < 0 || type > 3 ? INVALID_ARGUMENT : number(to, most[type]);
}
API ret nvmlDeviceGetPerformanceState(struct device *d, unsigned *to) { BEGIN_DEVICE(d); *to = g->util > 0 ? 2 : 8; return OK; }
API ret nvmlDeviceGetCudaComputeCapability(struct device *d, int *major, int *minor) {
  BEGIN_DEVICE(d);
  *major = g->cc_major;
  *minor = g->cc_minor;
  return OK;
}

API ret nvmlDeviceGetMigMode(struct device *d, unsigned *now, unsigned *pending) {
  BEGIN_DEVICE(d);
  (void)now;
  (void)pending;
  return NOT_SUPPORTED;
}
API ret nvmlDeviceGetMaxMigDeviceCount(struct device *d, unsigned *to) { BEGIN_DEVICE(d); *to = 0; return OK; }
API ret nvmlDeviceGetMigDeviceHandleByIndex(struct device *d, unsigned index, struct device **to) {
  BEGIN_DEVICE(d);
  (void)index;
  (void)to;
  return NOT_SUPPORTED;
}

struct process { unsigned pid; u64 bytes; unsigned gpu_instance, compute_instance; };
static ret processes(const struct state *s, int gpu, char type, unsigned *count, struct process *to) {
  unsigned n = 0, room = to ? *count : 0;
  for (int i = 0; i < s->procs; i++) {
    if (s->proc[i].gpu != gpu || !strchr(s->proc[i].type, type)) continue;
    if (n < room) {
      to[n].pid = s->proc[i].pid;
      to[n].bytes = s->proc[i].bytes < 0 ? ~0ULL : (u64)s->proc[i].bytes;
      to[n].gpu_instance = to[n].compute_instance = ~0U;
    }
    n++;
  }
  *count = n;
  return n > room ? INSUFFICIENT_SIZE : OK;
}
#define PROCESS_LIST(name, type) \
  API ret name##_v3(struct device *d, unsigned *count, struct process *to) { \
    BEGIN_DEVICE(d); return processes(s, (int)(g - s->gpu), type, count, to); } \
  API ret name##_v2(struct device *d, unsigned *count, struct process *to) { return name##_v3(d, count, to); }
PROCESS_LIST(nvmlDeviceGetComputeRunningProcesses, 'C')
PROCESS_LIST(nvmlDeviceGetGraphicsRunningProcesses, 'G')
PROCESS_LIST(nvmlDeviceGetMPSComputeRunningProcesses, 'M')

API ret nvmlDeviceGetSupportedEventTypes(struct device *d, u64 *to) { BEGIN_DEVICE(d); *to = 0x1f; return OK; }
API ret nvmlEventSetCreate(struct event_set **to) {
  BEGIN;
  *to = calloc(1, sizeof **to);
  if (*to) (*to)->seen = s->event_sequence;
  return *to ? OK : UNKNOWN;
}
API ret nvmlDeviceRegisterEvents(struct device *d, u64 types, struct event_set *set) {
  BEGIN_DEVICE(d);
  (void)types;
  set->registered |= 1u << (g - s->gpu);
  return OK;
}
struct event { struct device *device; u64 type, data; unsigned gpu_instance, compute_instance; };
API ret nvmlEventSetWait_v2(struct event_set *set, struct event *to, unsigned timeout_ms) {
  BEGIN;
  for (unsigned waited = 0;; waited += 20) {
    if (!read_state(s) && s->event_sequence > set->seen) {
      set->seen = s->event_sequence;
      if (s->event_gpu >= 0 && s->event_gpu < s->gpus && set->registered & 1u << s->event_gpu) {
        to->device = &devices[s->event_gpu];
        to->type = s->event_type;
        to->data = s->event_data;
        to->gpu_instance = to->compute_instance = ~0U;
        return OK;
      }
    }
    if (waited >= timeout_ms) return TIMEOUT;
    nanosleep(&(struct timespec){0, 20 * 1000 * 1000}, 0);
  }
}
API ret nvmlEventSetFree(struct event_set *set) {
  free(set);
  return OK;
}
