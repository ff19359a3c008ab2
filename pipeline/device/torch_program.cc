#include "pipeline/device/torch_program.h"

#include <c10/util/Exception.h>

#include "common/error/error.h"
#include "common/error/text.h"

namespace sgmd {

int RunTorchProgram(std::string_view program, const std::function<int()>& body) {
  return RunGuarded(program, [&] {
    try {
      return body();
    } catch (const c10::OutOfMemoryError& error) {
      throw Error(FirstLine(error.what_without_backtrace()), {},
                  "in a run, `sgmd-launch plan <topology>` shows what each process holds on a device and what would "
                  "make it fit (checkpoint_blocks, a teacher's offload, more devices, a smaller micro_batch); else "
                  "take fewer frames or "
                  "bfloat16, and see with nvidia-smi who else uses the device");
    } catch (const c10::Error& error) {
      throw std::runtime_error(error.what_without_backtrace());
    }
  });
}

}  // namespace sgmd
