# ESP-IDF's first reading of a component, where commands that make targets do not exist, and registering ends the file.
macro(idf_component_register)
  set(registered 1)
  return()
endmacro()

function(read)
  include(${COMPONENT}/CMakeLists.txt)
  set(registered ${registered} PARENT_SCOPE)
endfunction()

read()
if(NOT registered)
  message(FATAL_ERROR "no component")
endif()
