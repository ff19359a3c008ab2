// Streams of the stand-in. All is done at once, in the order of the calls; but a stream remembers what it has waited
// for, and memory which stream touched it last. So a wait that was forgotten is found: on a GPU it would be a race.
#pragma once

#include <c10/core/Stream.h>

namespace sgmd::stand_in {

/// Of this thread, as with CUDA: at first stream 0 of each device.
c10::Stream CurrentStream(c10::Device device);
/// Makes `stream` its device's current one; returns the one before.
c10::Stream ExchangeStream(c10::Stream stream);
c10::Stream NewStream(c10::Device device);

/// An event of what `stream` has done and waited for so far. Makes it where *event is null.
void RecordEvent(void** event, c10::Stream stream);
void WaitForEvent(const void* event, c10::Stream stream);
void DestroyEvent(void* event);

/// Said before each use of memory of a device by its current stream. Throws where another stream touched it last for
/// which this one has not waited.
void Touch(const void* memory, c10::Device device);
/// Said when the memory is freed.
void Forget(const void* memory);

}  // namespace sgmd::stand_in
