# The part of OpenCV that dense optical flow needs: target OpenCVVideo::OpenCVVideo. Debian splits the libraries finely, and its
# OpenCVConfig.cmake comes only with all of them.
include(FindPackageHandleStandardArgs)
find_path(OpenCVVideo_INCLUDE_DIR opencv2/video/tracking.hpp PATH_SUFFIXES opencv4)
set(OpenCVVideo_LIBRARIES)
foreach(part video imgproc core)
  find_library(OpenCVVideo_${part}_LIBRARY opencv_${part})
  list(APPEND OpenCVVideo_LIBRARIES ${OpenCVVideo_${part}_LIBRARY})
endforeach()
find_package_handle_standard_args(OpenCVVideo REQUIRED_VARS OpenCVVideo_INCLUDE_DIR OpenCVVideo_video_LIBRARY
                                  OpenCVVideo_imgproc_LIBRARY OpenCVVideo_core_LIBRARY)
if(OpenCVVideo_FOUND AND NOT TARGET OpenCVVideo::OpenCVVideo)
  add_library(OpenCVVideo::OpenCVVideo INTERFACE IMPORTED)
  target_include_directories(OpenCVVideo::OpenCVVideo INTERFACE ${OpenCVVideo_INCLUDE_DIR})
  target_link_libraries(OpenCVVideo::OpenCVVideo INTERFACE ${OpenCVVideo_LIBRARIES})
endif()
