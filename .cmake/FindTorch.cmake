# LibTorch out of the Python wheel. The wheel's own package files are fatal where nvcc is missing, so the libraries are
# imported here directly.
#
#   SGMD_TORCH   folder of the `torch` package (default: the one in <build>/venv)
#
# Defines Torch::Torch, the CPU part, which programs are linked with, and where CUDA's and NCCL's headers are there (in the wheels
# that the full torch wheel brings) Torch::Cuda, for what programs load on a machine with a GPU. SGMD_NVCC is CUDA's compiler, or false.
if(NOT SGMD_TORCH)
  file(GLOB torch_candidates ${CMAKE_BINARY_DIR}/venv/lib/python3*/site-packages/torch)
  list(GET torch_candidates 0 torch_first)
  set(SGMD_TORCH "${torch_first}" CACHE PATH "Folder of the torch package" FORCE)
endif()

include(FindPackageHandleStandardArgs)
find_library(TORCH_CPU_LIBRARY torch_cpu PATHS ${SGMD_TORCH}/lib NO_DEFAULT_PATH)
find_library(TORCH_C10_LIBRARY c10 PATHS ${SGMD_TORCH}/lib NO_DEFAULT_PATH)
find_package_handle_standard_args(Torch REQUIRED_VARS TORCH_CPU_LIBRARY TORCH_C10_LIBRARY
  REASON_FAILURE_MESSAGE "Run launch/setup, which puts the wheel into <build>/venv, or pass -DSGMD_TORCH=<folder of the torch package>.")

if(Torch_FOUND AND NOT TARGET Torch::Torch)
  add_library(Torch::Torch INTERFACE IMPORTED)
  target_include_directories(Torch::Torch SYSTEM INTERFACE
    ${SGMD_TORCH}/include ${SGMD_TORCH}/include/torch/csrc/api/include)
  target_link_libraries(Torch::Torch INTERFACE ${TORCH_C10_LIBRARY} ${TORCH_CPU_LIBRARY})
  # libtorch_cpu of the PyPI wheel needs cudart and cupti even on a machine without a GPU.
  file(GLOB torch_cuda_folders ${SGMD_TORCH}/../nvidia/*/lib)
  foreach(folder IN LISTS torch_cuda_folders)
    file(REAL_PATH ${folder} real_folder)
    target_link_options(Torch::Torch INTERFACE -Wl,-rpath-link,${real_folder})
  endforeach()

  find_path(CUDA_INCLUDE cublas_v2.h HINTS ${SGMD_TORCH}/../nvidia/cu13/include)
  find_path(NCCL_INCLUDE nccl.h HINTS ${SGMD_TORCH}/../nvidia/nccl/include)
  find_program(SGMD_NVCC nvcc HINTS ${SGMD_TORCH}/../nvidia/cu13/bin DOC "nvcc of CUDA 13, for kernels of our own")
  if(CUDA_INCLUDE AND NCCL_INCLUDE)
    add_library(Torch::Cuda INTERFACE IMPORTED)
    target_include_directories(Torch::Cuda SYSTEM INTERFACE ${CUDA_INCLUDE} ${NCCL_INCLUDE})
    target_link_libraries(Torch::Cuda INTERFACE Torch::Torch)
    target_link_options(Torch::Cuda INTERFACE "LINKER:--no-as-needed,${SGMD_TORCH}/lib/libc10_cuda.so,${SGMD_TORCH}/lib/libtorch_cuda.so,--as-needed")
  endif()
endif()
