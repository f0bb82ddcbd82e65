# The libraries that ddpm.c is built with.  Each becomes an imported target lib::<name>.
#
# A library is looked for by its header and its library file: first where CMAKE_PREFIX_PATH says (a conda or spack
# environment, a folder of one's own), then where pkg-config says, then in the system's folders.  Everything that is
# missing or too old is reported in one message, with the names of the packages.
find_package(PkgConfig QUIET)
set(DDPM_MISSING) # a sentence for each library that cannot be used

# What was found is kept in the cache.  It is looked for anew where other folders are named than the last time, and
# after a failure, so that what was installed meanwhile counts.
function(dependencies_forget)
  get_cmake_property(names CACHE_VARIABLES)
  list(FILTER names INCLUDE REGEX
    "^(DNNL|LIBPNG|LIBJPEG|ZLIB|JANSSON|LIBYAML|XXHASH|CRITERION|RANDOM123)_(INCLUDE|LIBRARY)$|^DNNL_RUNTIME_LIBRARY$|^(__pkg_config_checked_)?PC_")
  foreach(name ${names})
    unset(${name} CACHE)
  endforeach()
endfunction()

string(JOIN ";" DDPM_PLACES "${CMAKE_PREFIX_PATH}" "$ENV{CMAKE_PREFIX_PATH}" "${dnnl_DIR}" "${dnnl_ROOT}"
  "$ENV{dnnl_ROOT}" "$ENV{DNNLROOT}" "$ENV{PKG_CONFIG_PATH}")
# A build that configures itself anew may run without the environment of the first time: no folders, no change.
if(NOT DDPM_PLACES MATCHES "^;*$" OR NOT DEFINED DDPM_PLACES_BEFORE)
  if(DEFINED DDPM_PLACES_BEFORE AND NOT DDPM_PLACES STREQUAL DDPM_PLACES_BEFORE)
    dependencies_forget()
  endif()
  set(DDPM_PLACES_BEFORE "${DDPM_PLACES}" CACHE INTERNAL "The folders that were named")
endif()

function(dependency_missing sentence)
  set(DDPM_MISSING ${DDPM_MISSING} "${sentence}" PARENT_SCOPE)
endfunction()

# dependency_find(<PREFIX> HEADER <file> LIBRARY <name> MODULE <pkg-config module> [PLACES <folder> ...]): sets
# <PREFIX>_INCLUDE and <PREFIX>_LIBRARY, and <PREFIX>_VERSION where pkg-config knows it.
macro(dependency_find prefix)
  cmake_parse_arguments(FIND "" "HEADER;LIBRARY;MODULE" "PLACES" ${ARGN})
  if(PKG_CONFIG_FOUND)
    pkg_check_modules(PC_${prefix} QUIET ${FIND_MODULE})
  endif()
  find_path(${prefix}_INCLUDE ${FIND_HEADER} HINTS ${FIND_PLACES} ${PC_${prefix}_INCLUDE_DIRS} PATH_SUFFIXES include)
  find_library(${prefix}_LIBRARY ${FIND_LIBRARY} HINTS ${FIND_PLACES} ${PC_${prefix}_LIBRARY_DIRS}
    PATH_SUFFIXES lib lib64)
  mark_as_advanced(${prefix}_INCLUDE ${prefix}_LIBRARY)
  set(${prefix}_VERSION)
  get_filename_component(FIND_FOLDER "${${prefix}_LIBRARY}" DIRECTORY)
  if(FIND_FOLDER IN_LIST PC_${prefix}_LIBRARY_DIRS OR FIND_FOLDER STREQUAL "${PC_${prefix}_LIBDIR}")
    set(${prefix}_VERSION ${PC_${prefix}_VERSION}) # otherwise pkg-config speaks of another one
  endif()
endmacro()

function(dependency_target name prefix)
  add_library(lib::${name} INTERFACE IMPORTED)
  target_include_directories(lib::${name} INTERFACE ${${prefix}_INCLUDE})
  target_link_libraries(lib::${name} INTERFACE ${${prefix}_LIBRARY})
endfunction()

# dependency(<name> HEADER <file> LIBRARY <name> MODULE <pkg-config module> LEAST <version> DEBIAN <package>
#            FEDORA <package> [OPTIONAL])
# Without OPTIONAL a library that is missing joins DDPM_MISSING; with it there is no target.
function(dependency name)
  cmake_parse_arguments(ARG "OPTIONAL" "HEADER;LIBRARY;MODULE;LEAST;DEBIAN;FEDORA" "" ${ARGN})
  string(TOUPPER ${name} prefix)
  dependency_find(${prefix} HEADER ${ARG_HEADER} LIBRARY ${ARG_LIBRARY} MODULE ${ARG_MODULE})
  set(packages "${ARG_DEBIAN} (Debian, Ubuntu) or ${ARG_FEDORA} (Fedora)")
  if(NOT ${prefix}_INCLUDE OR NOT ${prefix}_LIBRARY)
    if(NOT ARG_OPTIONAL)
      dependency_missing("${name} is missing: install ${packages}")
    endif()
  elseif(${prefix}_VERSION AND ${prefix}_VERSION VERSION_LESS "${ARG_LEAST}")
    dependency_missing("${name} ${${prefix}_VERSION} is too old: ${ARG_LEAST} or newer is needed, ${packages}")
  else()
    dependency_target(${name} ${prefix})
  endif()
  set(DDPM_MISSING ${DDPM_MISSING} PARENT_SCOPE)
endfunction()

# oneDNN, built for OpenMP: other builds have threads of their own, which `threads` would not govern.  Its
# dnnl-config.cmake is not used: Debian 12's wants OpenCL, and some packages have none.
function(dependency_onednn least)
  set(packages "libdnnl-dev (Debian, Ubuntu) or onednn-devel (Fedora)")
  set(places ${dnnl_ROOT} $ENV{dnnl_ROOT} $ENV{DNNLROOT})
  if(dnnl_DIR) # <prefix>/lib/cmake/dnnl
    list(APPEND places ${dnnl_DIR}/../../..)
  endif()
  dependency_find(DNNL HEADER oneapi/dnnl/dnnl.h LIBRARY dnnl MODULE dnnl PLACES ${places})
  if(NOT DNNL_LIBRARY) # nor a link to it, which comes with the headers
    find_library(DNNL_RUNTIME_LIBRARY NAMES libdnnl.so.3 libdnnl.so.2 HINTS ${places} PATH_SUFFIXES lib lib64)
    mark_as_advanced(DNNL_RUNTIME_LIBRARY)
    set(DNNL_LIBRARY ${DNNL_RUNTIME_LIBRARY})
  endif()
  if(NOT DNNL_INCLUDE AND DNNL_LIBRARY)
    dependency_missing("oneDNN has its library (${DNNL_LIBRARY}) but not its headers: install ${packages}")
  elseif(NOT DNNL_INCLUDE OR NOT DNNL_LIBRARY)
    dependency_missing("oneDNN is missing: install ${packages}")
  else()
    file(STRINGS ${DNNL_INCLUDE}/oneapi/dnnl/dnnl_version.h defines REGEX "define DNNL_VERSION_(MAJOR|MINOR|PATCH) ")
    string(REGEX REPLACE "[^0-9;]" "" version "${defines}")
    string(REPLACE ";" "." version "${version}")
    string(REGEX MATCH "^[0-9]+" major "${version}")
    file(STRINGS ${DNNL_INCLUDE}/oneapi/dnnl/dnnl_config.h runtime REGEX "define DNNL_CPU_RUNTIME ")
    get_filename_component(library ${DNNL_LIBRARY} REALPATH)
    if(version VERSION_LESS ${least})
      dependency_missing("oneDNN ${version} (${DNNL_INCLUDE}) is too old: ${least} or newer is needed, ${packages}")
    elseif(NOT runtime MATCHES "RUNTIME_(OMP|SEQ)")
      string(REGEX REPLACE ".*RUNTIME_" "" runtime "${runtime}")
      dependency_missing("oneDNN ${version} (${DNNL_INCLUDE}) is built for ${runtime} threads: ddpm.c needs one built for OpenMP, such as ${packages}, and that folder not in CMAKE_PREFIX_PATH")
    elseif(library MATCHES "\\.so\\.([0-9]+)" AND NOT CMAKE_MATCH_1 EQUAL major)
      dependency_missing("oneDNN's headers (${DNNL_INCLUDE}) are of version ${version}, but its library is ${library}: name the folder of one oneDNN in CMAKE_PREFIX_PATH")
    else()
      message(STATUS "oneDNN ${version}, ${DNNL_LIBRARY}")
      dependency_target(onednn DNNL)
      if(DNNL_LIBRARY MATCHES "\\.a$")
        target_link_libraries(lib::onednn INTERFACE stdc++ ${CMAKE_DL_LIBS})
      endif()
    endif()
  endif()
  set(DDPM_MISSING ${DDPM_MISSING} PARENT_SCOPE)
endfunction()

find_package(OpenMP QUIET COMPONENTS C)
if(NOT OpenMP_C_FOUND)
  dependency_missing("OpenMP for ${CMAKE_C_COMPILER_ID} is missing: install libgomp1 for gcc, libomp-dev (Debian, Ubuntu) or libomp-devel (Fedora) for clang")
endif()
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
dependency_onednn(2.4)
dependency(libpng HEADER png.h LIBRARY png MODULE libpng LEAST 1.6 DEBIAN libpng-dev FEDORA libpng-devel)
dependency(libjpeg HEADER jpeglib.h LIBRARY jpeg MODULE libjpeg LEAST 2.0 DEBIAN libjpeg-dev
  FEDORA libjpeg-turbo-devel)
dependency(zlib HEADER zlib.h LIBRARY z MODULE zlib LEAST 1.2.11 DEBIAN zlib1g-dev FEDORA zlib-devel)
dependency(jansson HEADER jansson.h LIBRARY jansson MODULE jansson LEAST 2.11 DEBIAN libjansson-dev FEDORA jansson-devel)
dependency(libyaml HEADER yaml.h LIBRARY yaml MODULE yaml-0.1 LEAST 0.2 DEBIAN libyaml-dev FEDORA libyaml-devel)
dependency(xxhash HEADER xxhash.h LIBRARY xxhash MODULE libxxhash LEAST 0.8 DEBIAN libxxhash-dev FEDORA xxhash-devel)
if(TESTS)
  dependency(criterion OPTIONAL HEADER criterion/criterion.h LIBRARY criterion MODULE criterion LEAST 2.3
    DEBIAN libcriterion-dev FEDORA "criterion, built from source,")
  find_path(RANDOM123_INCLUDE Random123/philox.h)
endif()

if(DDPM_MISSING)
  dependencies_forget()
  list(JOIN DDPM_MISSING ".\n ddpm.c: " sentences)
  # The space keeps CMake from breaking the lines.
  message(FATAL_ERROR " ddpm.c: ${sentences}.\n ddpm.c: tools/deps installs what is missing; CMAKE_PREFIX_PATH names folders of one's own.")
endif()
