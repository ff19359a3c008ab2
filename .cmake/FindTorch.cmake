# LibTorch out of the Python wheel. The wheel's own package files are fatal where nvcc is missing, so the libraries are
# imported here directly.
#
#   SGMD_TORCH   folder of the `torch` package (default: the one in <build>/venv)
#
# Defines Torch::Torch. With SGMD_CUDA also links c10_cuda and torch_cuda and adds the CUDA toolkit headers.
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
  if(SGMD_CUDA)
    find_package(CUDAToolkit REQUIRED)
    target_include_directories(Torch::Torch SYSTEM INTERFACE ${CUDAToolkit_INCLUDE_DIRS})
    target_compile_definitions(Torch::Torch INTERFACE SGMD_CUDA)
    target_link_options(Torch::Torch INTERFACE
      "LINKER:--no-as-needed,${SGMD_TORCH}/lib/libc10_cuda.so,${SGMD_TORCH}/lib/libtorch_cuda.so,--as-needed")
  endif()
endif()
