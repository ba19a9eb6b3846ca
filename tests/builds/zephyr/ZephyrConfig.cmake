# A stand-in for Zephyr's package: modules, Kconfig and the CMake functions that a module of ours calls, on the host.
project(zephyr C ASM)
find_package(Python3 REQUIRED COMPONENTS Interpreter)
set(config ${CMAKE_BINARY_DIR}/config)
execute_process(
  COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/configure.py ${CMAKE_SOURCE_DIR}/prj.conf ${config} ${ZEPHYR_MODULES}
  RESULT_VARIABLE failed)
if(failed)
  message(FATAL_ERROR "Kconfig or a module.yml is wrong")
endif()
include(${config}.cmake)

add_library(zephyr_interface INTERFACE)
target_compile_options(zephyr_interface INTERFACE -std=c99 -ffreestanding -fno-common -Wall -Werror -imacros ${config}.h)
target_compile_definitions(zephyr_interface INTERFACE __ZEPHYR__=1)

add_library(app STATIC)
target_link_libraries(app PUBLIC zephyr_interface)
file(WRITE ${CMAKE_BINARY_DIR}/empty.c "")
add_executable(zephyr_elf ${CMAKE_BINARY_DIR}/empty.c)
set_target_properties(zephyr_elf PROPERTIES OUTPUT_NAME zephyr.elf RUNTIME_OUTPUT_DIRECTORY zephyr)

macro(zephyr_library_named name)
  set(ZEPHYR_CURRENT_LIBRARY ${name})
  add_library(${name} STATIC)
  target_link_libraries(${name} PUBLIC zephyr_interface)
  set_property(GLOBAL APPEND PROPERTY ZEPHYR_LIBS ${name})
endmacro()

function(zephyr_library_sources)
  target_sources(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGN})
endfunction()

function(zephyr_library_sources_ifdef feature)
  if(${feature})
    zephyr_library_sources(${ARGN})
  endif()
endfunction()

function(zephyr_include_directories)
  target_include_directories(zephyr_interface INTERFACE ${ARGN})
endfunction()

function(zephyr_compile_definitions_ifdef feature)
  if(${feature})
    target_compile_definitions(zephyr_interface INTERFACE ${ARGN})
  endif()
endfunction()

foreach(module IN LISTS module_names)
  add_subdirectory(${module_${module}} modules/${module})
endforeach()
get_property(libraries GLOBAL PROPERTY ZEPHYR_LIBS)
target_link_libraries(zephyr_elf -Wl,--whole-archive app ${libraries} -Wl,--no-whole-archive $<$<BOOL:${CONFIG_REQUIRES_FULL_LIBC}>:m>)
